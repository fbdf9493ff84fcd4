"""Helpers for all layers: names of files, text that is safe to show, threads, processes, the end of the process."""
