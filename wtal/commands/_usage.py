"""Errors of click about a call, worded and printed as those of wtal: one line, with the way to the help text."""

import re

import click


def is_help(error: click.ClickException) -> bool:
    """Return whether an error only stands for the help text, as after `wtal` without a command."""
    return type(error).__name__ == "NoArgsIsHelpError"  # since click 8.2; before, no error is raised


def sentence(error: click.ClickException) -> str:
    """Return the sentence for an error: what was refused, why, and where the help text is."""
    text = _reason(error).rstrip(".")
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return text
    return f"{text}{' ' if text.endswith('?') else '; '}see {error.ctx.command_path} --help"


def shown_name(param: click.Parameter) -> str:
    """Return the name of a parameter in a call: an option's longest, or an argument's as in the help text."""
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    metavar = param.metavar or ""
    return metavar if metavar and not metavar.startswith("[") else str(param.name).upper()


def _reason(error: click.ClickException) -> str:
    if isinstance(error, click.BadParameter) and error.param is not None and error.message:
        return f"{shown_name(error.param)}: {_lowered(error.message)}"
    return _lowered(error.format_message())


def _lowered(text: str) -> str:
    """Return a message of click in the middle of a sentence."""
    text = re.sub(r"is not a valid integer( range)?(?=\.?$)", "is not a whole number", text)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
