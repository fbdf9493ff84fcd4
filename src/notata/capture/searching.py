"""Search lines for a regular expression: a script that runs as a process of its own, without notata.

A search of Python cannot be interrupted, and no other thread runs meanwhile. A process can be killed, so
`notata.capture.patterns` starts this one for expressions that may take very long for some lines.

The first line of standard input is the expression as JSON, each further one a list of texts. For each list a line is
printed: the list of the matches, each as an object with the values of the named groups.
"""

from __future__ import annotations

import json
import re
import signal
import sys


def main() -> None:
    """Answer until standard input ends. Signals for the whole process group are left to the parent."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    search = re.compile(json.loads(sys.stdin.readline())).finditer
    for line in sys.stdin:
        found = [match.groupdict() for text in json.loads(line) for match in search(text)]
        print(json.dumps(found), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
