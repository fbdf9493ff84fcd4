"""Commands that measure and stress notata, separate from its tests: ``python -m tests.tools.NAME``."""
