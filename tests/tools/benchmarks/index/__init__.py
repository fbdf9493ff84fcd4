"""The index of an experiment with very many runs: as its writers leave it, and what they send for it."""
