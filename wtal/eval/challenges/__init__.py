"""One challenge per file: the rules of its server. `ChallengeLeaf` is the contract of a file."""
# ruff: noqa: N802 - members are named as in modules

from dataclasses import dataclass
from importlib.resources import files
from typing import Protocol

from wtal.registry import Registry


@dataclass(frozen=True)
class Challenge:
    """The rules of one challenge's submission file.

    `version` is the value of that key in a file. `results_only` is True if the challenge also accepts a file with
    nothing but `results`. `class_list` names the file in `wtal/eval/classes` with the class names, `tious` the
    thresholds of the ranking. `max_per_video` is the number of detections per video that the server accepts, None if
    its pages state none.
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
    """Return the challenge named `name`.

    Raises:
        UsageError: when there is none, with the nearest match.
    """
    return CHALLENGES.load(name).CHALLENGE
