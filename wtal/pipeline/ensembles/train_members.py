"""A recipe -> its runs, one per seed: of its one head, or of the ensemble of its members."""

from collections.abc import Sequence

from wtal.config import blamed
from wtal.errors import UsageError
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
    """Train a recipe and return a run per seed; what is half done is gone on with, what is done is left alone.

    An ensemble has the videos of the store that are `searched`; None is all that may train.

    An ensemble of S seeds per member takes the seeds S * seed .. S * seed + S - 1, so that no two ensembles share one.

    Raises:
        UsageError: when a subset does not exist, the subset that selects holds reported videos, or an ensemble cannot
            be put together so.
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


def recipe_of(name: str, assignments: Sequence[str] = (), quick: bool = False, refine: bool | None = None) -> Recipe:
    """Load the recipe of a call, with its `--set` overrides: with `quick` that of its first member alone.

    `refine` adds or leaves out the second stage; None has it as the recipe says.

    Raises:
        OverrideError: when the recipe is refused for the overrides.
        ConfigError: when it is refused as it is.
        UsageError: as `resolve_recipe`.
    """
    with blamed(assignments, lambda: resolve_recipe(load_recipe(name))):
        recipe = load_recipe(name, assignments)
        if quick:
            recipe = recipe.first_member()
        if refine is not None:
            recipe = recipe.model_copy(update={"refine": recipe.refinement if refine else None})
        resolve_recipe(recipe)
    return recipe


def resolve_recipe(recipe: Recipe) -> Recipe:
    """Spell out all settings of a recipe's head and student; refuse now what would only be refused after training.

    Raises:
        UsageError: when there is no such head or student, or an ensemble would have a single member, or cannot be
            localized so.
        ConfigError: when a setting is refused.
    """
    recipe = resolve_early(recipe)
    if recipe.refine is not None:
        recipe = recipe.model_copy(update={"refine": resolve_second_stage(recipe.refine)})
    if len(recipe.members()) * recipe.ensemble.seeds == 1:
        raise UsageError("an ensemble has two members or more; name another, or raise ensemble.seeds")
    localization_of(recipe)
    return recipe


def localization_of(recipe: Recipe, by: By | None = None) -> LocalizeConfig:
    """Return the localization of a recipe's runs: its own, or the one that its members give an ensemble.

    `by` says how they are put together, in place of the recipe.

    Raises:
        UsageError: when an ensemble cannot be localized so.
    """
    configs = [member.localize for member in recipe.members() for _ in range(recipe.ensemble.seeds)]
    if not configs:
        return recipe.localize
    return joined_localization([(1.0 / len(configs), config) for config in configs], by or recipe.ensemble.by)
