"""Write one run folder: its owner, state, parameters, log and files."""
