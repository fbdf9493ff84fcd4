"""``notata completion``: print the script with which a shell completes command lines."""

from __future__ import annotations

from typing import Final

import click

from notata.cli.completing import adapt_bash
from notata.cli.frame import Command

__all__ = ["completion"]

_VARIABLE: Final = "_NOTATA_COMPLETE"


@click.command(
    cls=Command,
    short_help="Print a script for shell completion.",
    examples=(
        "notata completion bash > ~/.local/share/bash-completion/completions/notata",
        "notata completion zsh > ~/.zfunc/_notata   # with fpath+=~/.zfunc before compinit in ~/.zshrc",
        "notata completion fish > ~/.config/fish/completions/notata.fish",
        'eval "$(notata completion bash)"           # for this shell only',
    ),
    epilog="Exit codes: 0 success; 2 usage error.",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that lets SHELL complete commands, options, local paths and names in a bucket.

    To complete a bucket URL, notata lists one folder, for at most three seconds. It uses the storage options that are
    earlier on the line, in fsspec's configuration and in the environment. Errors are not shown.
    """
    from click.shell_completion import ShellComplete, get_completion_class

    adapt_bash()
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click has no completion for {shell}")
    root = context.find_root().command
    click.echo(ShellComplete.source(kind(root, {}, "notata", _VARIABLE)))
