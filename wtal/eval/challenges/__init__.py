"""One challenge per file: what its server takes. `ChallengeLeaf` says what a file holds."""
# ruff: noqa: N802 - members are named as modules name them

from dataclasses import dataclass
from importlib.resources import files
from typing import Protocol

from wtal.registry import Registry


@dataclass(frozen=True)
class Challenge:
    """The rules of one challenge's submission file.

    `version` is what a file says under that key. `results_only` tells whether the challenge also takes a file that
    holds nothing but `results`. `class_list` names the file in `wtal/eval/classes` with the class names, `tious` the
    thresholds of the ranking. `max_per_video` is how many detections of a video the server takes, None where its pages
    name no such number.
    """

    title: str
    source: str
    version: str
    class_list: str
    results_only: bool
    tious: str = "0.5:0.95:0.05"
    max_per_video: int | None = None

    @property
    def classes(self) -> frozenset[str]:
        """Names of the classes."""
        text = files("wtal.eval").joinpath("classes", f"{self.class_list}.txt").read_text(encoding="utf-8")
        return frozenset(text.splitlines())


class ChallengeLeaf(Protocol):
    """A module of `challenges/`."""

    @property
    def CHALLENGE(self) -> Challenge:
        """The rules of its submission file."""


CHALLENGES = Registry[ChallengeLeaf]("challenge", __name__, ChallengeLeaf)


def load_challenge(name: str) -> Challenge:
    """Return the challenge called `name`.

    Raises:
        UsageError: with the nearest match, when there is none.
    """
    return CHALLENGES.load(name).CHALLENGE
