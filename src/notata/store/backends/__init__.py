"""The kinds of storage: one module each, and the modules that only they use."""
