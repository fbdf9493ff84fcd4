"""Tests of the importers on files that the real packages wrote, without these packages; see `make_files`."""
