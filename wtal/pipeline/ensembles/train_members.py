"""A recipe -> its runs, one per seed: of its single head, or of the ensemble of its members."""

from collections.abc import Mapping, Sequence

from wtal.config import about, build_overridden
from wtal.errors import UsageError
from wtal.eval.protocols import find_protocol
from wtal.extractors.execution.known import require_known
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.ensembles.ensemble import ensemble, joined_localization
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import Recipe, load_recipe
from wtal.pipeline.refinement.networks import resolve_second_stage
from wtal.pipeline.run_record import By
from wtal.pipeline.runs import Run
from wtal.pipeline.train import TrainInputs, resolve_early, train
from wtal.pipeline.workspace import Workspace


def train_recipe(
    inputs: TrainInputs,
    recipe: Recipe,
    seeds: Sequence[int],
    workspace: Workspace,
    device: str = "cpu",
    reporter: Reporter = SILENT,
    searched: frozenset[str] | None = None,
) -> list[Run]:
    """Train a recipe and return a run per seed, resuming partial runs and reusing finished ones.

    An ensemble covers the store's videos in `searched`; None means all videos available for training.

    An ensemble of S seeds per member takes the seeds S * seed .. S * seed + S - 1, so that no two ensembles share one.

    Raises:
        UsageError: when a subset does not exist, the selection subset contains reported videos, or an ensemble cannot
            be formed this way.
        WtalError: when no video has both features and labels.
    """
    recipe = resolve_recipe(recipe)
    members = recipe.members()
    if not members:
        return train(inputs, recipe, seeds, workspace, device, reporter)
    count = recipe.ensemble.seeds
    numbers = [count * seed + i for seed in seeds for i in range(count)]
    trained = [train(inputs, member, numbers, workspace, device, reporter) for member in members]
    ensembles, only = [], inputs.only if searched is None else searched
    for i in range(len(seeds)):
        folders = [run.folder for runs in trained for run in runs[i * count : (i + 1) * count]]
        by = recipe.ensemble.by
        ensembles.append(ensemble(folders, workspace, by, device=device, reporter=reporter, only=only).run)
    return ensembles


def recipe_of(
    name: str,
    assignments: Sequence[str] = (),
    quick: bool = False,
    refine: bool | None = None,
    spelled: Mapping[str, str] | None = None,
) -> Recipe:
    """Load the recipe of a call, with its `--set` overrides: with `quick`, that of its first member alone.

    `refine` adds or leaves out the second stage; None follows the recipe. `spelled` is as in `build_overridden`.

    Raises:
        OverrideError: when the recipe is refused because of an override.
        ConfigError: when the recipe itself is refused.
    """

    def load(chosen: Sequence[str]) -> Recipe:
        recipe = load_recipe(name, chosen)
        if quick:
            recipe = recipe.first_member()
        if refine is not None:
            recipe = recipe.model_copy(update={"refine": recipe.refinement if refine else None})
        with about(f"recipe {name}"):
            resolve_recipe(recipe)
        return recipe

    return build_overridden(assignments, load, spelled)


def resolve_recipe(recipe: Recipe) -> Recipe:
    """Spell out all settings of a recipe's head and student; raise now any error due during or after training.

    Raises:
        UsageError: when an ensemble has a single member, or it cannot be localized this way.
        ConfigError: when a name is unknown, or a setting is refused.
    """
    require_known(recipe.extract)
    if recipe.reported.rules:
        with about("reported.rules"):
            find_protocol(recipe.reported.rules)
    recipe = resolve_early(recipe)
    if recipe.refine is not None:
        recipe = recipe.model_copy(update={"refine": resolve_second_stage(recipe.refine)})
    if len(recipe.members()) * recipe.ensemble.seeds == 1:
        raise UsageError("an ensemble needs at least two members; add one, or raise ensemble.seeds")
    localization_of(recipe)
    return recipe


def localization_of(recipe: Recipe, by: By | None = None) -> LocalizeConfig:
    """Return the localization of a recipe's runs: its own, or the one that its members give an ensemble.

    `by` overrides the recipe's way of combining them.

    Raises:
        UsageError: when an ensemble cannot be localized this way.
    """
    configs = [member.localize for member in recipe.members() for _ in range(recipe.ensemble.seeds)]
    if not configs:
        return recipe.localize
    return joined_localization([(1.0 / len(configs), config) for config in configs], by or recipe.ensemble.by)
