"""Show captured output where it went before: a script that runs as a process of its own, without notata.

It copies what is added to a spool file (see ``spool.py``) to a file descriptor. It is a process because it must also
show the last words of a process that crashes, and those of a library that holds Python's global lock. It ends when its
parent ends or closes standard input; signals for the whole process group are left to the parent.

Arguments: pairs of a file descriptor of a spool, opened for reading and writing, and the one to write to.
"""

from __future__ import annotations

import os
import select
import signal
import sys

HEADER = 64
FIELD = 20  # offset of the position in the header, as in spool.py
PAUSE = 0.02  # seconds between two looks


def copy(spool: int, to: int, position: int) -> int:
    """Copy what is new, and note the position. Return it."""
    while data := os.pread(spool, 1 << 18, position):
        view = memoryview(data)
        while view:
            view = view[os.write(to, view) :]
        position += len(data)
        os.pwrite(spool, b"%019d\n" % position, FIELD)
    return position


def main(arguments: list[str]) -> None:
    """Copy until the parent ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    numbers = [int(argument) for argument in arguments]
    positions = dict.fromkeys(zip(numbers[::2], numbers[1::2], strict=True), HEADER)
    is_last = False
    while positions:
        for (spool, to), position in list(positions.items()):
            try:
                positions[spool, to] = copy(spool, to, position)
            except OSError:  # the terminal is closed
                del positions[spool, to]
                os.pwrite(spool, b"9" * 19, FIELD)
        if is_last:
            return
        is_last = bool(select.select([0], [], [], PAUSE)[0])


if __name__ == "__main__":
    main(sys.argv[1:])
