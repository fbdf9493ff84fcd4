"""Compare notata and its peers, over a network with a chosen delay: ``python -m tests.tools.benchmarks``.

The command creates its own environments (`environments`) and starts its own servers (`sites`, behind a `proxy` that
adds the delay). Each contestant (`peers`) works in a separate process (`worker` here, `child` there). The command takes
one sample after another from each in turn (`contest`) and prints the results (`report`). Each measurement is a module
in `measures`, named by a letter in the tables.

Neither notata nor its tests import this package, except for the tests of the benchmarks. The modules that a child
imports need only the packages of the peer.
"""
