"""A head as its authors' code saved it -> a finished run, which can detect and be judged."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wtal.config import Config, digest
from wtal.data.annotations import read_annotations
from wtal.data.files import file_sha256, write_json
from wtal.data.store import FeatureStore
from wtal.errors import UsageError, WeightsError
from wtal.pipeline.recipe import Recipe, load_recipe, recipe_names
from wtal.pipeline.train import TrainInputs, describe, make_head, resolve_early
from wtal.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from wtal.models.head import Head


def import_checkpoint(
    head: str, files: Mapping[str, Path], inputs: TrainInputs, workspace: Workspace, recipe: str = ""
) -> Path:
    """Files of one head, {"": file} or stream -> file -> the folder of a run's only seed.

    The run localizes and is judged by `recipe`, by default the one of THUMOS14 for this head; what the tensors cannot
    tell of the head, such as a scale, is that recipe's, too. Its classes are those of the annotations, whose number and
    order must be the checkpoint's.

    Raises:
        UsageError: when the streams do not fit the store.
        WeightsError: when a file is no checkpoint of the head, needs code to be run, or does not fit the store.
    """
    from wtal.extractors.checkpoint import read_checkpoint
    from wtal.models.head import author_settings, load_author_checkpoint
    from wtal.models.trainer import write_finished

    store, dataset = FeatureStore.open(inputs.store), read_annotations(inputs.annotations)
    states = {stream: read_checkpoint(path) for stream, path in files.items()}
    state: Mapping[str, Any] = states.get("", states)
    base = _base(head, recipe)
    told = {key: base.head_settings[key] for key in author_settings(head) & base.head_settings.keys()} if recipe else {}
    loaded = load_author_checkpoint(head, state, len(dataset.classes), **told)
    described = _recipe(loaded, base)
    fresh = make_head(described, len(dataset.classes), store.dims)
    _copy(loaded, fresh, files, store)
    made = {name: file_sha256(path) for name, path in files.items()}
    name = f"{head}-imported-{digest([made, described.plain(), store.identity, list(dataset.classes)])}"
    folder = workspace.runs / name / "seed-0"
    described_run = describe(inputs, store, dataset, described, 0, folder)
    write_json(folder / "run.json", {**described_run, "imported": made})
    write_finished(fresh, folder)
    write_json(folder / "finished.json", {"step": 0, "selection_score": None})
    return folder


def _base(head: str, name: str) -> Recipe:
    """The named recipe, or the one of THUMOS14; a bare one for a head that has none."""
    if not name and f"thumos14/{head}" not in recipe_names():
        return Recipe(head={"name": head})
    found = load_recipe(name or f"thumos14/{head}")
    if found.head_name != head:
        raise UsageError(f"recipe {name!r} is of {found.head_name}, the checkpoint is read as {head}")
    return found


def _recipe(loaded: "Head", base: Recipe) -> Recipe:
    """The recipe with what was read off the checkpoint: the settings that its loader named."""
    first = next((part for part in loaded.modules() if hasattr(part, "config")), None)
    config: Config = first.config if first is not None else Config()  # type: ignore[assignment]
    read = {key: value for key, value in config.plain().items() if key in config.model_fields_set}
    settings = {"name": base.head_name, "authors": True, **base.head_settings, **read}
    return resolve_early(base.model_copy(update={"head": settings}))


def _copy(loaded: "Head", fresh: "Head", files: Mapping[str, Path], store: FeatureStore) -> None:
    state, own = loaded.state_dict(), fresh.state_dict()
    if state.keys() != own.keys():
        got = "one stream" if "" in files else f"the streams {', '.join(files)}"
        raise UsageError(
            f"the checkpoint is of {got}, {store.path} has {', '.join(store.dims)}; "
            "name a file a stream: --stream rgb=FILE --stream flow=FILE"
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            dims = ", ".join(f"{name} {dim}" for name, dim in store.dims.items())
            raise WeightsError(
                f"the checkpoint does not fit the features ({dims}): {key} is {tuple(value.shape)}, "
                f"wanted {tuple(own[key].shape)}"
            )
    fresh.load_state_dict(state)
