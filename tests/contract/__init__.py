"""One suite for all backends: each must keep the same contract."""
