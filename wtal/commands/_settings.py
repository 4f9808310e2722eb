"""`--set KEY=VALUE`: the keys that a command accepts, and their list."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wtal.commands._near import RECIPE_KEYS

if TYPE_CHECKING:  # and late below: only `--set help` waits for it
    from wtal.pipeline.inspection.settings import Setting

Function = TypeVar("Function", bound=Callable[..., Any])

_HELP = ("help", "?")
_COLUMN = 40
"""Maximum characters of a key and its value on one line with the meaning."""


class SetOption(click.Option):
    """`--set KEY=VALUE`, repeatable; `--set help` prints the settings of the command, as listed by `settings`.

    `settings` receives the values of the command's other options and arguments.
    """

    def __init__(self, *args: Any, settings: Callable[[Mapping[str, Any]], "list[Setting]"], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = settings

    def asked_by(self, args: Sequence[str]) -> bool:
        """Return whether a call asks for the settings."""
        apart = any(name == "--set" and value in _HELP for name, value in itertools.pairwise(args))
        return apart or any(f"--set={word}" in args for word in _HELP)

    def print_settings(self, ctx: click.Context) -> None:
        """Print every key with its value and its meaning."""
        formatter = ctx.make_formatter()
        formatter.write_dl([_row(each) for each in self.settings(ctx.params)], col_max=_COLUMN)
        click.echo(formatter.getvalue().rstrip("\n"))


def _row(setting: "Setting") -> tuple[str, str]:
    choices = f"[{'|'.join(setting.choices)}] " if setting.choices else ""
    others = "; ".join(f"{value} in {', '.join(recipes)}" for value, recipes in setting.exceptions)
    text = f"{choices}{setting.meaning}{f' Here {others}.' if others else ''}"
    if setting.recipes and setting.key.endswith(".name"):
        text += f" Used in {', '.join(setting.recipes)}."
    return f"{setting.key}={setting.value}", text


def recipe_set_option(function: Function) -> Function:
    """Add `--set section.key=value`, for any value of a recipe."""
    return _set(RECIPE_KEYS, "value of the recipe", "train.steps=500", _of_recipe)(function)


def localize_set_option(function: Function) -> Function:
    """Add `--set localize.key=value`, for the localization of a trained run."""
    return _set("localize.KEY=VALUE", "value of the run's localization", "localize.nms_tiou=0.4", _of_run)(function)


def refine_set_option(function: Function) -> Function:
    """Add `--set refine.key=value`, for the second stage of a run."""
    return _set("refine.KEY=VALUE", "setting of the second stage", "refine.rounds=1", _of_stage)(function)


def _set(
    metavar: str, value: str, example: str, settings: "Callable[[Mapping[str, Any]], list[Setting]]"
) -> Callable[[Function], Function]:
    text = f"Override a {value}, e.g. {example}; may be repeated. `--set help` lists the keys."
    return click.option(
        "--set", "assignments", multiple=True, metavar=metavar, help=text, cls=SetOption, settings=settings
    )


def _of_recipe(values: Mapping[str, Any]) -> "list[Setting]":
    from wtal.pipeline.inspection.settings import recipe_settings

    if values.get("dataset"):
        from wtal.commands._selection import names_of
        from wtal.pipeline.reproduction.reproduce import recipes_of

        return recipe_settings(*recipes_of(values["dataset"], names_of(values.get("methods") or "")))
    return recipe_settings(*(values.get("recipes") or (values.get("recipe") or "",)))


def _of_run(values: Mapping[str, Any]) -> "list[Setting]":
    from wtal.pipeline.inspection.settings import localize_settings

    return localize_settings(_run(values))


def _of_stage(values: Mapping[str, Any]) -> "list[Setting]":
    from wtal.pipeline.inspection.settings import refine_settings

    return refine_settings(_run(values))


def _run(values: Mapping[str, Any]) -> Path | None:
    """Return the run of the call, or the newest one as the command would take it; None if there is none yet."""
    from wtal.errors import WtalError
    from wtal.pipeline.workspace import Workspace

    runs = values.get("runs") or (values.get("run"),)
    run: Path | None = runs[0]
    if run is not None or not values.get("workspace"):
        return run
    try:
        return Workspace(values["workspace"]).newest_run()
    except WtalError:
        return None
