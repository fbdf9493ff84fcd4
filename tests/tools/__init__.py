"""Commands that measure and stress notata, apart from its tests: each is started by ``python -m tests.tools.NAME``."""
