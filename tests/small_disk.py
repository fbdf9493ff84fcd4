"""Run a test function on its own small disk, which may be full or read-only: ``python -m tests.small_disk …``.

The disk is a tmpfs mounted in a child process, in a private mount namespace. That needs no privilege where the system
allows user namespaces, and root elsewhere.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.nursery import Script

__all__ = ["Disk", "run"]

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000  # from <sched.h>; `os.unshare` exists since Python 3.12
_PAGE = os.sysconf("SC_PAGESIZE") if hasattr(os, "sysconf") else 4096


class Disk:
    """A small disk, in the process that mounted it.

    Attributes:
        folder: Its mount point.
    """

    def __init__(self, folder: Path, size: str, files: int) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={files}", "tmpfs", folder], check=True)

    def fill(self, left: int = 0) -> None:
        """Fill the disk except for `left` pages."""
        with open(self._filler, "wb", buffering=0) as file:
            with pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(bytes(_PAGE))
            file.truncate(max(0, file.tell() // _PAGE - left) * _PAGE)

    def fill_with_files(self) -> None:
        """Use up all inodes, so that no further file can be created."""
        self._filler.mkdir()
        with pytest.raises(OSError, match="No space left"):
            for number in range(10**6):
                (self._filler / str(number)).touch()

    def make_room(self) -> None:
        if self._filler.is_dir():
            for path in self._filler.iterdir():
                path.unlink()
            self._filler.rmdir()
        else:
            self._filler.unlink()

    def make_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)

    def make_writable(self) -> None:
        subprocess.run(["mount", "-o", "remount,rw", self.folder], check=True)

    def files(self) -> dict[str, bytes]:
        """Read all files, including unfinished ones."""
        found = {}
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                if self._filler not in (path, path.parent):
                    found[str(path.relative_to(self.folder))] = path.read_bytes()
        return found


Body = Callable[..., None]


def run(body: Body, folder: Path, *arguments: str, size: str = "1m", files: int = 1000) -> None:
    """Call `body` with a `Disk` and the arguments in a process with its own disk; raise if it fails."""
    script = Script("tests.small_disk", [str(folder), size, str(files), body.__module__, body.__name__, *arguments])
    output, errors = script.communicate()
    if script.returncode:
        pytest.fail(f"{body.__name__} on a small disk:\n{output}{errors}", pytrace=False)


def _enter_namespace() -> None:
    """Create a private mount namespace, as root of a user namespace if possible, otherwise as root."""
    user, group = os.getuid(), os.getgid()
    try:
        _unshare(_NEW_USER | _NEW_MOUNTS)
    except OSError:
        _unshare(_NEW_MOUNTS)
    else:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def _unshare(what: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(what):
        told = ctypes.get_errno()
        raise OSError(told, f"no mount namespace can be made here, so no small disk: {os.strerror(told)}")


def main(folder: str, size: str, files: str, module: str, name: str, *arguments: str) -> None:
    warnings.simplefilter("error")
    _enter_namespace()
    body: Body = getattr(importlib.import_module(module), name)
    body(Disk(Path(folder), size, int(files)), *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
