"""pyarrow's file systems with fsspec's wrapper, over a local folder: the code of ``hdfs://`` without a Hadoop."""

from __future__ import annotations

import errno
import os
from typing import Any

from fsspec.implementations.arrow import ArrowFSWrapper

__all__ = ["ArrowFolder", "RefusingArrowFolder"]


class ArrowFolder(ArrowFSWrapper):  # type: ignore[misc]
    """``arrow://``: pyarrow's local file system."""

    protocol = "arrow"

    def __init__(self, **options: Any) -> None:
        from pyarrow.fs import LocalFileSystem

        super().__init__(LocalFileSystem(), **options)


class RefusingArrowFolder(ArrowFolder):
    """``arrow-refusing://``: the same with a rename that refuses existing targets, as on HDFS."""

    protocol = "arrow-refusing"

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        if os.path.exists(self._strip_protocol(path2)):
            raise OSError(errno.EIO, "rename failed")
        super().mv(path1, path2, **options)
