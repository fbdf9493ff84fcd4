"""Where a run comes from, and why it failed: interpreter, machine, packages, git, exceptions."""
