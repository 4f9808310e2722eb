"""The command line: parse, call one stage, print one result. Results go to stdout, progress to stderr."""

import importlib
import os
from typing import Any

import click
from click.shell_completion import CompletionItem

import wtal
from wtal.commands._exits import one_line, prepare
from wtal.commands._near import NearGroup

# One line per command, so that `wtal --help` need not import any of them. A test compares them with the commands' own.
SECTIONS = {
    "Start here": {
        "run": "Find actions: the whole chain from videos and labels to detections.",
        "demo": "Try the whole chain on videos that it renders itself.",
    },
    "Data": {
        "extract": "Extract snippet features of videos into a store.",
        "import-features": "Import published features into a store.",
        "export-features": "Export a store as feature files in a published layout.",
        "merge": "Merge stores of different streams or rates into one.",
        "weights": "Fetch published checkpoints, or check those present.",
    },
    "Train and detect": {
        "train": "Train a localization head from video-level labels.",
        "refine": "Train a student on a run's detections: better borders.",
        "import-checkpoint": "Import a checkpoint saved by a paper's own code as a run.",
        "detect": "Detect actions with a trained head.",
        "tune": "Tune a run's localization settings.",
        "pack": "Pack a run into one file, for detection on other machines.",
        "ensemble": "Combine several runs into one.",
    },
    "Judge": {
        "evaluate": "Evaluate detections: mAP and other figures.",
        "diagnose": "Diagnose detections: a page of errors and their costs.",
        "compare": "Compare recipes in one table, next to published rows.",
        "reproduce": "Reproduce a dataset's table from published features.",
        "submit": "Write a challenge file, or check one.",
    },
    "Use": {
        "report": "Write a page with video players, to watch and judge detections.",
        "export": "Export detections to editors, players and other programs.",
        "review": "Show or import verdicts, or choose what to review next.",
        "clips": "Cut a clip of each detection, and a reel of the best.",
    },
    "Inspect": {
        "show": "Show the contents of a store, a run or a file.",
        "verify": "Compare stored features with their checksums.",
        "list": "List the choices: heads, recipes, backbones, ...",
        "doctor": "Check this machine: readers, flow, GPU, weights, disk.",
        "completion": "Print the completion script of a shell.",
    },
}
"""Commands in the order of use, by the sections of `wtal --help`."""

COMMANDS = {name: line for commands in SECTIONS.values() for name, line in commands.items()}


class Commands(NearGroup):
    """Commands in the order of use, each imported on demand."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as in click, but with all streams open, and with one line if something cannot be loaded or printed."""
        prepare()
        with one_line():
            return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the options before the command; print an error in one line."""
        with one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Import a command and run it; Ctrl-C before it begins gives one line too."""
        with one_line():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"wtal.commands.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a table of commands for each section, from `SECTIONS` alone."""
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), line) for name, line in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names, with their descriptions, without importing a command; complete options as in click."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=line) for name, line in COMMANDS.items() if name.startswith(incomplete)]


def _print_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"wtal, version {wtal.__version__}")
        context.exit()


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def main() -> None:
    """Find actions in videos, learned from video-level labels only.

    Start with `wtal demo`, or with your own videos: `wtal run videos/ --labels labels.csv`.
    """
    # Before torch is loaded: threads that wait give their core back, or a machine that has other work to do as well
    # makes small operations ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
