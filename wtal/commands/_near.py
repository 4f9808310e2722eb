"""Suggest near matches for wrong names of commands, options and choices, worded as in `wtal.registry`.

It imports `wtal.registry` late, where a name is wrong, so that `--help` and completion stay fast.
"""

from typing import Any

import click

from wtal.commands._usage import shown_name

RECIPE_KEYS = "SECTION.KEY=VALUE"
"""Metavar of `--set` if it accepts any value of a recipe."""


class Near(click.Command):
    """A command that suggests its nearest option for an unknown one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            from wtal.registry import nearest

            names = [name for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts)]
            near = nearest(error.option_name, [name for name in names if name.startswith("--")])
            hint = f"; did you mean {near!r}?" if near else ""
            if error.option_name == "--head" and any(param.metavar == RECIPE_KEYS for param in ctx.command.params):
                hint = "; use --set head.name=NAME"
            raise click.UsageError(f"there is no option {error.option_name!r}{hint}", error.ctx or ctx) from None
        except click.MissingParameter as error:
            if error.param is None:
                raise
            kind = error.param.type
            choices = f"; {kind.get_missing_message(error.param)}" if isinstance(kind, Choice) else ""
            raise click.UsageError(f"{shown_name(error.param)} is missing{choices}", error.ctx or ctx) from None
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise


class NearGroup(Near, click.Group):
    """A group that suggests its nearest command for an unknown one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a command as click does."""
        names = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in names and not ctx.resilient_parsing:
            from wtal.registry import suggest

            ctx.fail(f"there is no command {args[0]!r}; {suggest(args[0], names)}")
        return super().resolve_command(ctx, args)


class Choice(click.Choice):  # type: ignore[type-arg]  # takes arguments from click 8.2 on alone
    """One of several names; for a wrong one, the nearest is suggested."""

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return the choices, for the message about a missing one."""
        return f"choices: {', '.join(map(str, self.choices))}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the choice, which may be a number."""
        choices = {str(choice): choice for choice in self.choices}
        if str(value) not in choices:
            from wtal.registry import suggest

            self.fail(f"there is no {value!r}; {suggest(str(value), choices)}", param, ctx)
        return choices[str(value)]
