"""`wtal completion`."""

import click
from click.shell_completion import get_completion_class

from wtal.commands._console import Command, json_option, print_json
from wtal.commands._near import Choice

SHELLS = {
    "bash": ("~/.bashrc", 'eval "$(wtal completion bash)"'),
    "zsh": ("~/.zshrc", 'eval "$(wtal completion zsh)"'),
    "fish": ("~/.config/fish/completions/wtal.fish", "wtal completion fish | source"),
}
"""Shell -> (file that it reads when it starts, line to add there)."""

_LINES = "\b\n" + "\n".join(f"{name:<5} {file}: {line}" for name, (file, line) in SHELLS.items())


@click.command(
    "completion",
    cls=Command,
    short_help="Print the completion script of a shell.",
    help="Print the script that makes a shell complete commands, options, names and the contents of the workspace.\n\n"
    f"To enable it, add a line to the file that the shell reads when it starts:\n\n{_LINES}",
)
@click.argument("shell", type=Choice(list(SHELLS)), metavar=f"[{'|'.join(SHELLS)}]")
@json_option
@click.pass_context
def command(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print the script."""
    completion = get_completion_class(shell)
    assert completion is not None, shell
    script = completion(ctx.find_root().command, {}, "wtal", "_WTAL_COMPLETE").source()
    # click's script for fish splits `plain,csv,srt` at every comma, and offers only `csv`.
    script = script.replace('string split ","', 'string split --max 1 ","')
    print_json({"shell": shell, "script": script}) if as_json else click.echo(script)
