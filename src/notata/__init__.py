"""The record of a scientific run as plain files, on a disk or in a bucket."""

__version__ = "1.0.0.dev0"
