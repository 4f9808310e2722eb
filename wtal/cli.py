"""The command line: parse, call one stage, print one result. stdout is the result, stderr the progress."""

import importlib
import os

import click

import wtal

# One line a command, so that `wtal --help` need not import any of them. A test holds them against the commands' own.
COMMANDS = {
    "run": "Videos and labels in, detections out: the whole chain in one call.",
    "demo": "The whole chain on a small collection that it renders itself.",
    "extract": "Videos -> snippet features in a store.",
    "import-features": "Published features -> a store.",
    "export-features": "A store -> feature files in a published layout.",
    "import-checkpoint": "A head as its authors' code saved it -> a run.",
    "merge": "Stores of streams at different rates -> one store on a common grid.",
    "train": "Features and video-level labels -> a trained localization head.",
    "detect": "A trained head -> class activations -> detections.",
    "ensemble": "Several runs -> one: means of activations, or fused detections.",
    "tune": "A run's localization, searched on videos that are not reported.",
    "evaluate": "Detections and annotations -> mAP.",
    "diagnose": "Detections and annotations -> a page of errors and their costs.",
    "compare": "Many heads and seeds -> one table beside the published rows.",
    "submit": "Detections -> a checked challenge file.",
    "weights": "Published checkpoints: fetched, or checked.",
    "list": "What there is to choose from.",
    "show": "What a store, a run or a file holds.",
    "doctor": "What this machine has: readers, flow, GPU, weights, disk.",
}


class Commands(click.Group):
    """Commands in the order of use, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"wtal.commands.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, from `COMMANDS` alone."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest command named where there is none of that name."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from wtal.registry import suggest

            ctx.fail(f"there is no command {args[0]!r}; {suggest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(wtal.__version__, prog_name="wtal")
def main() -> None:
    """Find actions in videos, learned from video-level labels only.

    Start with `wtal demo`, or with your own: `wtal run videos/ --labels labels.csv`.
    """
    # Before torch is loaded: threads that wait give their core back, or a machine that has other work to do as well
    # makes small operations ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
