"""Evaluation settings, and the detection files to evaluate: those of a run's seeds, or a stand-alone file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtal.data.detections import read_made, verdicts_of
from wtal.data.kinds import detections_in, require_detections
from wtal.errors import UsageError
from wtal.eval.protocols import INPUT
from wtal.pipeline.recipe import EvaluateConfig
from wtal.pipeline.runs import UNTRAINED, Run, open_runs


@dataclass(frozen=True)
class Question:
    """Settings of the evaluation; None takes the run's own, or the default for a file."""

    annotations: Path | None = None
    subset: str | None = None
    tious: str | None = None
    protocol: str | None = None
    ambiguous: Path | None = None
    streams: str | None = None
    stage: int | None = None
    ties: str = INPUT


@dataclass(frozen=True)
class Source:
    """A detection file, the rules of its run, and the statements of the run or the file about itself."""

    name: str
    file: Path
    run: Run | None
    annotations: Path
    subset: str
    tious: str
    stamps: Mapping[str, Any]

    @property
    def tuned(self) -> bool:
        """True if annotated times took part in training or in the settings."""
        return self.stamps.get("tuned_with_segments") is True

    @property
    def random(self) -> tuple[str, ...]:
        """Streams of features with random weights."""
        weights = self.stamps.get("weights")
        named = weights.items() if isinstance(weights, dict) else ()
        return tuple(stream for stream, weight in named if str(weight).startswith("random"))


def not_learned(stamps: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes called not learned by held-out labels, from the stamps of a run or a file."""
    return tuple(label for label, verdict in verdicts_of(stamps).items() if verdict == "not learned")


def untrained(stamps: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes absent from all training videos, from the stamps of a run or a file."""
    named = stamps.get(UNTRAINED)
    return tuple(map(str, named)) if isinstance(named, list) else ()


def sources(path: Path, question: Question) -> list[Source]:
    """Return the detection files of a run, one per seed, that of a folder of `wtal detect`, or the file itself.

    Raises:
        UsageError: when the path does not exist, or a file is given without annotations or with a run's options.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; pass a run's folder or a detection file")
    if (path := detections_in(path)).is_dir():
        return [source_of(run, question) for run in open_runs(path)]
    require_detections(path)
    if question.streams is not None or question.stage is not None:
        raise UsageError(f"--streams and --stage are for a run's folder, but {path} is a file; leave them out")
    if question.annotations is None:
        raise UsageError(f"--annotations is required to judge the file {path}")
    rules = EvaluateConfig()
    subset = question.subset or rules.test_subset
    return [Source(path.name, path, None, question.annotations, subset, rules.tiou, read_made(path))]


def only_source(path: Path, question: Question) -> Source:
    """Return the only detection file of a run with one seed, or the file itself.

    Raises:
        UsageError: as in `sources`, or when the run has several seeds.
    """
    several = sources(path, question)
    if len(several) > 1:
        raise UsageError(f"{path} has {len(several)} seeds; name one of them, such as {path / 'seed-0'}")
    return several[0]


def source_of(run: Run, question: Question, file: Path | None = None) -> Source:
    """Return the run's own detections, or others in `file`, with the run's rules.

    Raises:
        UsageError: when the run has no detections yet.
        WtalError: when its annotations are missing and no others are given.
    """
    rules = run.recipe.evaluate
    return Source(
        f"seed {run.folder.name.removeprefix('seed-')}",
        file or run.detections(question.streams, question.stage),
        run,
        question.annotations or run.annotations_file(),
        question.subset or rules.test_subset,
        rules.tiou,
        run.stamps,
    )
