"""One run folder while it is written: who owns it, its state, its parameters, its log and its files."""
