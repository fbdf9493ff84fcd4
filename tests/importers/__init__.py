"""Tests of the importers with the packages that write the files: see docs/how-to/developing.md."""
