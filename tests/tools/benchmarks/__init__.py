"""Compare notata and its peers, over a network with a chosen delay: ``python -m tests.tools.benchmarks``.

The command makes its own environments (`environments`), starts its own servers (`sites`, behind a `proxy` that delays),
has each contestant (`peers`) work in a process of its own (`worker` here, `child` there), asks them in turn for one
sample after the other (`contest`), and tells what came of it (`report`). What is measured is one module a letter, in
`measures`.

Nothing here is imported by notata or by its tests, those of the benchmarks excepted; the modules that a child imports
need no package but those of the peer.
"""
