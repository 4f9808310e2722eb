"""A head as saved by its authors' code -> a finished run, ready for detection and evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wtal.config import Config, digest
from wtal.data.annotations import read_annotations
from wtal.data.files import file_sha256
from wtal.data.store import FeatureStore
from wtal.errors import UsageError, WeightsError
from wtal.models.heads import author_settings, load_author_checkpoint
from wtal.pipeline.recipe import Recipe, load_recipe, recipe_names
from wtal.pipeline.runs import Run
from wtal.pipeline.train import TrainInputs, describe, make_head, resolve_early
from wtal.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from wtal.extractors.weights.checkpoint import State
    from wtal.models.head import Head

_MOST_CLASSES = 1000
"""Largest tensor dimension accepted as a number of classes."""


@dataclass(frozen=True)
class Checked:
    """Content of a checkpoint's tensors: classes without background, parameters, and settings inferred from them."""

    head: str
    classes: int
    parameters: int
    settings: dict[str, Any]


def check_checkpoint(head: str, files: Mapping[str, Path], recipe: str = "") -> Checked:
    """Read files of one head as in `import_checkpoint`, without features and labels: every key, every shape.

    Raises:
        UsageError: when the head or recipe is unknown.
        WeightsError: when a file is not a checkpoint of the head for any number of classes, or loading it would run
            code.
    """
    states, base = _read(files), _base(head, recipe)
    sizes = {size for state in states.values() for value in state.values() for size in getattr(value, "shape", ())}
    refused: list[WeightsError] = []
    for classes in sorted({count for size in sizes for count in (size - 1, size) if 0 < count <= _MOST_CLASSES}):
        try:
            loaded = _load(head, states, classes, base, recipe)
        except WeightsError as error:
            refused.append(error)
        else:
            count = sum(parameter.numel() for parameter in loaded.parameters())
            return Checked(head, classes, count, _settings(loaded))
    # The number that fits best yields the shortest complaint.
    raise min(refused, key=lambda error: len(str(error)), default=WeightsError(f"{head}: no tensor has a shape"))


def import_checkpoint(
    head: str, files: Mapping[str, Path], inputs: TrainInputs, workspace: Workspace, recipe: str = ""
) -> Path:
    """Make a run from the files of one head ({"": file} or stream -> file); return the folder of its only seed.

    The run is localized and evaluated by `recipe`, by default the THUMOS14 recipe of this head, which also supplies
    settings that tensors cannot reveal, such as a scale. Its classes are those of the annotations, whose number and
    order must match the checkpoint.

    Raises:
        UsageError: when the streams do not fit the store.
        WeightsError: when a file is not a checkpoint of the head, loading it would run code, or it does not fit the
            store.
    """
    from wtal.models.training.checkpoint import write_finished

    store, dataset = FeatureStore.open(inputs.store), read_annotations(inputs.annotations)
    base = _base(head, recipe)
    loaded = _load(head, _read(files), len(dataset.classes), base, recipe)
    described = _recipe(loaded, base)
    fresh = make_head(described, len(dataset.classes), store.dims)
    _copy(loaded, fresh, files, store)
    hashes = {name: file_sha256(path) for name, path in files.items()}
    name = f"{head}-imported-{digest([hashes, described.plain(), store.identity, list(dataset.classes)])}"
    folder = workspace.runs / name / "seed-0"
    described_run = describe(inputs, store, dataset, described, 0, folder)
    run = Run.write(folder, {**described_run, "imported": hashes})
    write_finished(fresh, folder)
    run.finish({"step": 0, "selection_score": None})
    return folder


def _read(files: Mapping[str, Path]) -> dict[str, "State"]:
    from wtal.extractors.weights.checkpoint import read_checkpoint

    return {stream: read_checkpoint(path) for stream, path in files.items()}


def _load(head: str, states: Mapping[str, "State"], classes: int, base: Recipe, recipe: str) -> "Head":
    settings = (
        {key: base.head_settings[key] for key in author_settings(head) & base.head_settings.keys()} if recipe else {}
    )
    state: Mapping[str, Any] = states.get("", states)
    return load_author_checkpoint(head, state, classes, **settings)


def _base(head: str, name: str) -> Recipe:
    """Load the named recipe, or the THUMOS14 one; a bare one for a head without either."""
    if not name and f"thumos14/{head}" not in recipe_names():
        return Recipe(head={"name": head})
    base = load_recipe(name or f"thumos14/{head}")
    if base.head_name != head:
        raise UsageError(
            f"recipe {name!r} is for {base.head_name}, but the checkpoint is read as {head}; name one for {head}"
        )
    return base


def _recipe(loaded: "Head", base: Recipe) -> Recipe:
    """Return the recipe with the settings inferred from the checkpoint."""
    settings = {"name": base.head_name, "authors": True, **base.head_settings, **_settings(loaded)}
    return resolve_early(base.model_copy(update={"head": settings}))


def _settings(loaded: "Head") -> dict[str, Any]:
    """Return the settings named by the checkpoint's loader."""
    first = next((part for part in loaded.modules() if hasattr(part, "config")), None)
    config: Config = first.config if first is not None else Config()  # type: ignore[assignment]
    return {key: value for key, value in config.plain().items() if key in config.model_fields_set}


def _copy(loaded: "Head", fresh: "Head", files: Mapping[str, Path], store: FeatureStore) -> None:
    state, own = loaded.state_dict(), fresh.state_dict()
    if state.keys() != own.keys():
        got = "one stream" if "" in files else f"the streams {', '.join(files)}"
        raise UsageError(
            f"the checkpoint is for {got}, but {store.path} has {', '.join(store.dims)}; "
            "name one file per stream: --stream rgb=FILE --stream flow=FILE"
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            dims = ", ".join(f"{name} {dim}" for name, dim in store.dims.items())
            raise WeightsError(
                f"the checkpoint does not fit the features ({dims}): {key} is {tuple(value.shape)}, "
                f"wanted {tuple(own[key].shape)}"
            )
    fresh.load_state_dict(state)
