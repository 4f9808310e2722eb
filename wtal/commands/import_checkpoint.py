"""`wtal import-checkpoint`."""

from pathlib import Path

import click

from wtal.commands._console import Command, json_option, print_json, workspace_option
from wtal.commands._near import Choice
from wtal.commands._types import InWorkspace, Name
from wtal.errors import UsageError
from wtal.models.heads import HEADS
from wtal.pipeline.exchange.import_checkpoint import Checked, check_checkpoint, import_checkpoint
from wtal.pipeline.recipe import recipe_names
from wtal.pipeline.train import TrainInputs
from wtal.pipeline.workspace import Workspace


@click.command("import-checkpoint", cls=Command, short_help="Import a checkpoint saved by a paper's own code as a run.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--head", type=Choice(HEADS.names()), required=True, help="Head that the checkpoint belongs to.")
@click.option(
    "--stream",
    "streams",
    multiple=True,
    metavar="NAME=FILE",
    help="Checkpoint of one stream, in place of FILE; one per stream.",
)
@click.option("--store", type=InWorkspace("features"), help="Feature store. Default: the workspace's only one.")
@click.option(
    "--annotations", type=InWorkspace("annotations"), help="Annotation file. Default: the workspace's only one."
)
@click.option(
    "--recipe",
    type=Name(recipe_names),
    default="",
    metavar="NAME",
    help="Recipe for settings that the tensors do not reveal. Default: thumos14/HEAD.",
)
@workspace_option
@json_option
def command(
    file: Path | None,
    head: str,
    streams: tuple[str, ...],
    store: Path | None,
    annotations: Path | None,
    recipe: str,
    workspace: Path,
    as_json: bool,
) -> None:
    """Import a checkpoint with its authors' key layout as a finished run, and print its folder.

    Every key is used or refused by name; no pickled code is executed. The class list of the annotations must be in the
    checkpoint's order. Settings that the tensors do not reveal (scales, localization, protocol) come from the recipe.
    Continue with `wtal detect RUN` and `wtal evaluate RUN`. Without features and annotations for a run, the file is
    only read and checked, and its content is printed.
    """
    root = Workspace(workspace)
    if store is None and annotations is None and root.is_empty:
        _report(check_checkpoint(head, _files(file, streams), recipe), as_json)
        return
    inputs = TrainInputs(store or root.only_store(), annotations or root.only_annotations())
    folder = import_checkpoint(head, _files(file, streams), inputs, root, recipe)
    if as_json:
        print_json({"run": str(folder)})
    else:
        click.echo(str(folder))


def _report(checked: Checked, as_json: bool) -> None:
    if as_json:
        print_json({"run": None, **vars(checked)})
        return
    settings = ", ".join(f"{key} {value}" for key, value in checked.settings.items())
    click.echo(
        f"{checked.head}: {checked.classes} classes, {checked.parameters:,} parameters; {settings}\n"
        "every key was used; give --store and --annotations to make it a run"
    )


def _files(file: Path | None, streams: tuple[str, ...]) -> dict[str, Path]:
    """Return stream -> path; the only FILE has an empty name."""
    if (file is None) == (not streams):
        raise UsageError("pass one FILE, or one --stream NAME=FILE per stream")
    named = {"": file} if file is not None else {}
    for text in streams:
        name, equals, path = text.partition("=")
        if not name or not equals or not path or name in named:
            raise UsageError(f"--stream takes NAME=FILE, each name once; got {text!r}")
        named[name] = Path(path)
    return named
