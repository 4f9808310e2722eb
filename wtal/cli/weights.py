"""`wtal weights`."""

from collections.abc import Callable
from pathlib import Path

import click

from wtal.cli._console import Command, json_option, print_json
from wtal.pipeline.weights import check_weights, fetch_weights


@click.group("weights", short_help="Published checkpoints: fetched, or checked.")
def command() -> None:
    """Published checkpoints of backbones: `wtal list weights` names them."""


@command.command("fetch", cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="BACKBONE:NAME...")
@json_option
def fetch(names: tuple[str, ...], as_json: bool) -> None:
    """Download checkpoints into the workspace's folder of weights, check them, and print where they are.

    A transfer that broke off is resumed. Files that only a person can fetch are named with their page and their place.
    """
    _each(fetch_weights, names, as_json)


@command.command("check", cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="BACKBONE:NAME...")
@json_option
def check(names: tuple[str, ...], as_json: bool) -> None:
    """Hold checkpoints that are there against their published hash, or the hash of the first file that came."""
    _each(check_weights, names, as_json)


def _each(do: Callable[[str], Path], names: tuple[str, ...], as_json: bool) -> None:
    found = {name: str(do(name)) for name in names}
    if as_json:
        print_json(found)
    else:
        click.echo("\n".join(found.values()))
