"""The command line: parse, call one stage, print one result. stdout is the result, stderr the progress."""

import importlib
import os
from typing import Any

import click

import wtal
from wtal.commands._exits import one_line, prepare

# One line per command, so that `wtal --help` need not import any of them. A test compares them with the commands' own.
SECTIONS = {
    "Start here": {
        "run": "Videos and labels in, detections out: the whole chain in one call.",
        "demo": "The whole chain on a small collection that it renders itself.",
    },
    "Data": {
        "extract": "Videos -> snippet features in a store.",
        "import-features": "Published features -> a store.",
        "export-features": "A store -> feature files in a published layout.",
        "merge": "Stores of streams at different rates -> one store on a common grid.",
        "weights": "Published checkpoints: fetched, or checked.",
    },
    "Train and detect": {
        "train": "Features and video-level labels -> a trained localization head.",
        "refine": "A run's detections -> a student that learns borders from them, as a run.",
        "import-checkpoint": "A head as its authors' code saved it -> a run.",
        "detect": "A trained head -> class activations -> detections.",
        "tune": "A run's localization, searched on videos that are not reported.",
        "pack": "A run -> one file that other machines detect with.",
        "ensemble": "Several runs -> one: means of activations, or fused detections.",
    },
    "Judge": {
        "evaluate": "Detections and annotations -> mAP.",
        "diagnose": "Detections and annotations -> a page of errors and their costs.",
        "compare": "Many heads and seeds -> one table beside the published rows.",
        "reproduce": "Published features -> a dataset's table, papers' rows beside ours.",
        "submit": "Detections -> a checked challenge file.",
    },
    "Use": {
        "report": "Detections -> a page with players, to watch and to judge them.",
        "export": "Detections -> files of editors, players and labelling programs.",
        "review": "Verdicts on detections: from other programs, the next to give, what they teach.",
        "clips": "Detections -> a clip of each with its sound, and a reel of the best.",
    },
    "Inspect": {
        "show": "What a store, a run or a file holds.",
        "list": "What there is to choose from.",
        "doctor": "What this machine has: readers, flow, GPU, weights, disk.",
    },
}
"""Commands in the order of use, by the sections of `wtal --help`."""

COMMANDS = {name: line for commands in SECTIONS.values() for name, line in commands.items()}


class Commands(click.Group):
    """Commands in the order of use, each imported when it is asked for."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as click does, on streams that are open; what cannot be loaded or printed is one line too."""
        prepare()
        with one_line():
            return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None where there is none of that name."""
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command as click does; an unknown name is refused with the nearest one."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from wtal.registry import suggest

            ctx.fail(f"there is no command {args[0]!r}; {suggest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


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

    Start with `wtal demo`, or with your own: `wtal run videos/ --labels labels.csv`.
    """
    # Before torch is loaded: threads that wait give their core back, or a machine that has other work to do as well
    # makes small operations ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
