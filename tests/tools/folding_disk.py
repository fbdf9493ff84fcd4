"""``python -m tests.tools.folding_disk``: the tests of case-insensitive names on a real exFAT, mounted with FUSE.

It needs root, ``/dev/fuse``, a loop device, and Debian's packages ``exfat-fuse`` and ``exfatprogs``. The suite runs the
same tests on a fake of such a disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["DISK", "exfat"]

_NAME: Final = "NOTATA_TEST_FOLDING_DISK"

DISK: Final = os.environ.get(_NAME, "")
"""Mount point of a case-insensitive disk; empty in the suite, which uses a fake."""


@contextmanager
def exfat() -> Iterator[Path]:
    """Make and mount an exFAT of 64 MB; unmount and remove it."""
    with tempfile.TemporaryDirectory() as folder:
        image, mount = Path(folder, "image"), Path(folder, "mount")
        mount.mkdir()
        with image.open("wb") as file:
            file.truncate(64 * 2**20)
        subprocess.run(["mkfs.exfat", str(image)], check=True, stdout=subprocess.DEVNULL)
        found = subprocess.run(["losetup", "-f", "--show", str(image)], check=True, capture_output=True, text=True)
        device = found.stdout.strip()
        try:
            subprocess.run(["mount.exfat-fuse", device, str(mount)], check=True)
            try:
                yield mount
            finally:
                subprocess.run(["umount", str(mount)], check=True)
        finally:
            subprocess.run(["losetup", "-d", device], check=True)


def main() -> int:
    """Run the tests there."""
    with exfat() as mount:
        command = [sys.executable, "-m", "pytest", "-q", "tests/test_spelling.py", *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, _NAME: str(mount)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
