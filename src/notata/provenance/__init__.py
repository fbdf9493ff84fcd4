"""Record the environment of a run and its failures: interpreter, machine, packages, git, exceptions."""
