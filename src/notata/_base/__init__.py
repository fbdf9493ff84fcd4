"""Helpers for all layers: keys, safe text, threads, processes, and the end of the process."""
