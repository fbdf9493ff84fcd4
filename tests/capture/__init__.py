"""Tests of `notata.capture`: what programs print."""
