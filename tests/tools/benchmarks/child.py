"""The process of one contestant: it executes the commands on its standard input, line by line, and answers with costs.

The first line is the site; each other line is a method of the peer with its arguments, as JSON. Output of the peer's
libraries goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from tests.servers import CLOUD_ENVIRONMENT
from tests.tools.benchmarks.peers import PEERS, Peer, UnavailableError
from tests.tools.benchmarks.sites import Site
from tests.tools.memory import peak


@contextlib.contextmanager
def counted_if(wanted: bool) -> Iterator[list[str]]:
    """Count the requests of a block, but only on demand: counting takes time too."""
    if not wanted:
        yield []
        return
    from tests.counting import counted

    with counted() as sent:
        yield sent


def measured(peer: Peer, verb: str, arguments: list[Any], count: bool) -> dict[str, Any]:
    """Run a call and return its result and costs."""
    before = peak()
    with counted_if(count) as sent:
        start, thread, process = time.perf_counter(), time.thread_time(), time.process_time()
        value = getattr(peer, verb)(*arguments)
        thread, process = time.thread_time() - thread, time.process_time() - process
        seconds = time.perf_counter() - start
    costs = {"seconds": seconds, "thread": thread, "process": process, "grown": peak() - before}
    return {"value": value, **costs, "requests": len(sent) if count else None}


def refusal(error: Exception) -> dict[str, Any]:
    """Return the reason for a missing result: the peer does not support it here, or it failed."""
    if isinstance(error, UnavailableError | ImportError):
        return {"refused": str(error)}
    return {"refused": f"failed: {type(error).__name__}: {error}"}


def main(name: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ.update(CLOUD_ENVIRONMENT)
    # The fast server stores a multipart upload's checksum as that of the whole object: s3fs would refuse to read it.
    os.environ["AWS_RESPONSE_CHECKSUM_VALIDATION"] = "when_required"
    peer = PEERS[name](Site(**json.loads(sys.stdin.readline())))
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = measured(peer, order["verb"], order["arguments"], order["count"])
        except Exception as error:
            answer = refusal(error)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
