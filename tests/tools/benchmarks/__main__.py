"""Start the command, see `command`: with this Python, or with that of the environment that it needs."""

from __future__ import annotations

import sys

from tests.tools.benchmarks import environments

if __name__ == "__main__":
    try:
        from tests.tools.benchmarks.command import main
    except ModuleNotFoundError:  # this Python lacks notata, or a package that the measurements need
        environments.restart(sys.argv[1:])
    sys.exit(main(sys.argv[1:]))
