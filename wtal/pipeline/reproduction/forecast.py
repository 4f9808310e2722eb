"""Forecast the time and memory of a reproduction here, from a trial of each method on a sample of its videos."""

import tempfile
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wtal.data.annotations import read_annotations, write_annotations
from wtal.data.dataset import Dataset
from wtal.errors import UsageError
from wtal.pipeline.comparison.compare import PlannedRow
from wtal.pipeline.extraction.plan import hours, size
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.reproduction.sizes import Sizes, by_length, sizes_of, write_sample
from wtal.pipeline.reproduction.trial import Measured, try_method

TRAINING, REPORTED = 96, 12
"""Number of videos in the sample: for training and for reporting."""
_NOT_MEASURED = "not measured here"
_BUSY = 0.7
"""Share of a processor below which a trial was slowed down by other processes."""


@dataclass(frozen=True)
class Share:
    """Size of a recipe's data: training videos, their rows, those of reported videos; and the same for the sample."""

    videos: int
    rows: int
    reported: int
    sample_rows: int
    sample_reported: int


@dataclass(frozen=True)
class Expected:
    """One method for one seed: `steps` of its head and of its student, and seconds of both rows."""

    name: str
    measured: Measured
    steps: int
    student_steps: int
    head: float
    second_stage: float
    memory: int

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        if self.measured.failure:
            return {"method": self.name, "failure": self.measured.failure}
        return {
            "method": self.name,
            "steps": self.steps,
            "seconds_per_step": self.measured.step,
            "head_seconds": self.head,
            "student_steps": self.student_steps,
            "student_seconds_per_step": self.measured.student_step,
            "second_stage_seconds": self.second_stage,
            "memory_bytes": self.memory,
            "gpu_bytes": self.measured.gpu,
            "processors": self.measured.processors,
        }


@dataclass(frozen=True)
class Forecast:
    """All methods, the import of the features, and the number of seeds."""

    methods: tuple[Expected, ...]
    seeds: int
    importing: float
    features_bytes: int
    origin: str

    @property
    def seconds(self) -> float:
        """Seconds in total."""
        return self.importing + self.seeds * sum(each.head + each.second_stage for each in self.methods)

    @property
    def memory(self) -> int:
        """Bytes of memory needed: those of the most demanding method."""
        return max((each.memory for each in self.methods), default=0)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {
            "features": self.origin,
            "features_bytes": self.features_bytes,
            "seeds": self.seeds,
            "import_seconds": self.importing,
            "methods": [each.to_json() for each in self.methods],
            "seconds": self.seconds,
            "memory_bytes": self.memory,
        }

    def _busy(self) -> list[str]:
        """Return a warning if other processes slowed the trial: times are then for a machine equally busy."""
        least = min((each.measured.processors for each in self.methods if not each.measured.failure), default=1.0)
        if least >= _BUSY:
            return []
        return [f"this machine is busy: a method got only {least:.2g} of a processor; try again once it is idle"]

    def _held(self) -> str:
        return size(self.memory) if any(each.measured.memory for each in self.methods) else _NOT_MEASURED

    def lines(self) -> list[str]:
        """Return a table as text, and its totals."""
        header = ["", "steps", "s/step", "head", "student steps", "s/step", "second stage", "memory"]
        table = [header, *(_cells(each) for each in self.methods)]
        widths = [max(len(row[column]) for row in table if len(row) > 2) for column in range(len(header))]
        shown = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in table
        ]
        refined = ", each with its second stage" if any(each.student_steps for each in self.methods) else ""
        several = "" if self.seeds == 1 else f", from {self.seeds} seeds"
        return [
            f"planned: {len(self.methods)} methods{refined}{several}; times are for one seed",
            *shown,
            f"features: {self.origin}, {size(self.features_bytes)}; importing them takes about {hours(self.importing)}",
            f"total: about {hours(self.seconds)} here",
            *self._busy(),
            f"memory: {self._held()}, plus {size(self.features_bytes)} of mapped features, which the system "
            "evicts when it needs memory",
        ]


def _cells(each: Expected) -> list[str]:
    measured = each.measured
    if measured.failure:
        return [each.name, f"fails: {measured.failure}"]
    student = (
        [str(each.student_steps), f"{measured.student_step:.3g}", hours(each.second_stage)]
        if each.student_steps
        else ["", "", ""]
    )
    memory = (size(each.memory) if measured.memory else _NOT_MEASURED) + (
        f", GPU {size(measured.gpu)}" if measured.gpu else ""
    )
    return [each.name, str(each.steps), f"{measured.step:.3g}", hours(each.head), *student, memory]


def forecast(
    dataset: str,
    plans: Sequence[PlannedRow],
    seeds: int,
    features: Path | None,
    annotations: Path,
    device: str = "cpu",
    reporter: Reporter = SILENT,
) -> Forecast:
    """Try each method on a sample of the features, or on random numbers of the same size if there are none.

    Raises:
        UsageError: when a path does not exist, or no training or reported video has features.
        FormatError: when no file can be read.
    """
    labels = read_annotations(annotations)
    sizes = sizes_of(dataset, labels, features, annotations)
    heads = [plan for plan in plans if not plan.second_stage]
    refined = {plan.name: plan for plan in plans if plan.second_stage}
    with tempfile.TemporaryDirectory(prefix="wtal-trial-") as folder:
        sample = _Sample.make(Path(folder), sizes, labels, heads[0].recipe)
        expected = []
        with reporter.task("try", len(heads), "method") as task:
            for number, plan in enumerate(heads):
                second = plan.refined().name in refined
                measured = sample.measure(plan.recipe, f"{number}", second, device)
                expected.append(expected_of(plan, measured, sample.share, second, sizes.row_bytes))
                task.advance(note=plan.name)
    total = sizes.total(sizes.rows)
    importing = sizes.reading + sample.writing * total / sample.rows if sizes.to_import else 0.0
    return Forecast(tuple(expected), seeds, importing, total * sizes.row_bytes, sizes.origin)


@dataclass(frozen=True)
class _Sample:
    """A store of some videos, and their annotations, in a temporary folder."""

    folder: Path
    share: Share
    rows: int
    writing: float

    @classmethod
    def make(cls, folder: Path, sizes: Sizes, labels: Dataset, recipe: Recipe) -> "_Sample":
        rules = recipe.evaluate
        training = [v.id for v in labels.select(rules.train_subset) if v.labels and v.id in sizes.rows]
        reported = [v.id for v in labels.select(rules.test_subset) if v.id in sizes.rows]
        for names, subset in ((training, rules.train_subset), (reported, rules.test_subset)):
            if not names:
                raise UsageError(f"no video of subset {subset!r} has features")
        taught, asked = by_length(sizes, training, TRAINING), by_length(sizes, reported, REPORTED)
        names = list(dict.fromkeys([*taught, *asked]))
        writing = write_sample(sizes, names, folder / "features")
        videos = {name: labels.videos[name] for name in names}
        write_annotations(Dataset(labels.classes, videos), folder / "annotations.json")
        counts = (sizes.total(training), sizes.total(reported), sizes.total(taught), sizes.total(asked))
        return cls(folder, Share(len(training), *counts), sizes.total(names), writing)

    def measure(self, recipe: Recipe, name: str, second_stage: bool, device: str) -> Measured:
        """Try a recipe in a separate process, so that its memory can be measured."""
        import torch
        from joblib.externals.loky import ProcessPoolExecutor

        threads = torch.get_num_threads()
        limits = {"OMP_NUM_THREADS": str(threads)}
        paths = (self.folder / "features", self.folder / "annotations.json", self.folder / name)
        executor = ProcessPoolExecutor(1, env=limits)
        try:
            measured: Measured = executor.submit(try_method, recipe, *paths, second_stage, device, threads).result()
        except BrokenProcessPool:
            return Measured(failure="its process was killed, probably for lack of memory")
        finally:
            executor.shutdown(wait=True, kill_workers=True)
        return measured


def expected_of(plan: PlannedRow, measured: Measured, share: Share, second_stage: bool, row_bytes: int) -> Expected:
    """Return the cost of a method on all videos, extrapolated from its trial on the sample."""
    if measured.failure:
        return Expected(plan.name, measured, 0, 0, 0.0, 0.0, 0)
    from wtal.models.training.trainer import steps_of

    train, student = plan.recipe.train, plan.recipe.refinement
    steps = steps_of(train, share.videos)
    training, reported = share.rows / share.sample_rows, share.reported / share.sample_reported
    head = steps * measured.step + training * measured.passes + reported * measured.detection
    head += (steps // train.checkpoint_every + 1) * measured.checkpoint
    student_steps, second = 0, 0.0
    if second_stage:
        student_steps = student.steps_of(share.videos)
        second = student_steps * measured.student_step + reported * measured.student_detection
        second += training * (measured.lesson + measured.relabelling)
        second += (student_steps // student.train.checkpoint_every + 1) * measured.student_checkpoint
    mapped = (share.sample_rows + share.sample_reported) * row_bytes
    return Expected(plan.name, measured, steps, student_steps, head, second, max(measured.memory - mapped, 0))
