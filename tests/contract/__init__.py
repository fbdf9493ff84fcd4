"""One suite for all backends: what holds on one holds on each."""
