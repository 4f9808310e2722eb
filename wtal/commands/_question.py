"""Options for the evaluation, shared by the commands that evaluate."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from wtal.commands._near import Choice
from wtal.commands._types import InWorkspace
from wtal.eval.protocols import INPUT, PROTOCOLS, TIES
from wtal.pipeline.judging.sources import Question
from wtal.pipeline.recipe import EvaluateConfig

_DEFAULT = EvaluateConfig()
_JUDGED = (
    click.option(
        "--annotations", type=InWorkspace("annotations"), help="Ground truth. Default: the run's own annotations."
    ),
    click.option("--subset", help=f"Subset of videos to judge. Default: the run's, or {_DEFAULT.test_subset}."),
    click.option(
        "--tiou",
        "tious",
        help=f"tIoU thresholds, start:stop:step or a list. Default: the protocol's, the run's, or {_DEFAULT.tiou}.",
    ),
    click.option(
        "--protocol",
        type=Choice(PROTOCOLS),
        metavar="NAME",
        help=f"Rules to judge by: {', '.join(PROTOCOLS)}. Default: ActivityNet's.",
    ),
    click.option(
        "--ties",
        type=Choice(TIES),
        default=INPUT,
        show_default=True,
        help="Order of equal scores; `official` follows ActivityNet's script, including how it treats 0/0 overlaps.",
    ),
    click.option(
        "--ambiguous",
        type=click.Path(path_type=Path),
        help="File of ambiguous time ranges, one `video start end` per line.",
    ),
    click.option("--streams", metavar="NAME", help="Runs only: judge the detections of `wtal detect --streams NAME`."),
    click.option(
        "--stage",
        type=click.IntRange(0),
        metavar="N",
        help="Runs only: judge the detections of `wtal detect --stage N`.",
    ),
)


def question_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a `Question` (`--annotations`, `--subset`, `--tiou`, `--protocol`, ...) as `question`."""

    @wraps(function)
    def asked(
        annotations: Path | None,
        subset: str | None,
        tious: str | None,
        protocol: str | None,
        ties: str,
        ambiguous: Path | None,
        streams: str | None,
        stage: int | None,
        **others: Any,
    ) -> None:
        function(question=Question(annotations, subset, tious, protocol, ambiguous, streams, stage, ties), **others)

    for option in reversed(_JUDGED):
        option(asked)
    return asked
