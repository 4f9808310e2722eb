"""Parts of an ensemble, read from its members: activations to be averaged, or detections to be pooled."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from wtal.config import digest
from wtal.data.detections import BEGINS, read_detections, read_made
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter
from wtal.models.localization.ensemble import MemberActivations, comparable, mean_activations, typical_best
from wtal.models.localization.signals import Activations
from wtal.pipeline.activations import activations_of, read_activations
from wtal.pipeline.detect import detect
from wtal.pipeline.ensemble_run import open_means, write_pool
from wtal.pipeline.ensembles.members import Member, common_ids, mark_of_file, mark_of_store
from wtal.pipeline.progress import Reporter
from wtal.pipeline.runs import Run

Only = frozenset[str] | None
"""Ids of the videos to use; None means all of a store."""


class EnsembleParts(Protocol):
    """Parts of an ensemble: `marks` are digests of the members', `ids` map common video ids to each member's own.

    Scores of the members' detections are divided by `scales`; empty if there are none.
    """

    marks: list[str]
    ids: list[dict[str, str]]
    scales: list[float]

    def fill(self, run: Run, identity: Mapping[str, Any]) -> None:
        """Write the parts into an ensemble's folder."""


@dataclass(frozen=True)
class _Opened:
    """Member with its videos' features and its activations."""

    member: Member
    store: FeatureStore
    activations: FeatureStore


class ActivationParts(EnsembleParts):
    """The members' activations, averaged into the ensemble's; missing ones are computed."""

    def __init__(self, members: Sequence[Member], device: str, reporter: Reporter, only: Only = None) -> None:
        self.opened = [_open(member, device, reporter, only) for member in members]
        self.reporter = reporter
        self.marks = [mark_of_store(opened.activations) for opened in self.opened]
        self.ids = common_ids([_among(opened.store.ids, only) for opened in self.opened])
        self.scales: list[float] = []

    def fill(self, run: Run, identity: Mapping[str, Any]) -> None:
        """Write the means as the ensemble's activations."""
        writer = StoreWriter.open(run.activations_folder(), {"ensemble": dict(identity)})
        attends = any("attention" in opened.activations.dims for opened in self.opened)
        classes = self.opened[0].member.run.classes
        everything = sorted(set().union(*self.ids))
        _report_lengths([opened.store for opened in self.opened], self.ids, self.reporter)
        with self.reporter.task("average", len(everything), "video") as task:
            for key in everything:
                if not writer.done(key):
                    _write_mean(writer, key, list(self._holders(key)), classes, attends)
                task.advance()
        writer.publish()

    def _holders(self, key: str) -> Iterator[tuple[_Opened, str]]:
        """Yield the members that have a video, each with its own id for it."""
        for opened, names in zip(self.opened, self.ids, strict=True):
            if key in names:
                yield opened, names[key]


def _among(keys: Iterable[str], only: Only) -> list[str]:
    return [key for key in keys if only is None or key in only]


def _open(member: Member, device: str, reporter: Reporter, only: Only) -> _Opened:
    if member.run.ensemble:
        means = open_means(member.run)
        return _Opened(member, means, means)
    store = member.run.store()
    return _Opened(member, store, activations_of(member.run, store, _among(store.ids, only), device, reporter))


def _write_mean(
    writer: StoreWriter,
    key: str,
    holders: Sequence[tuple[_Opened, str]],
    classes: Sequence[str],
    attends: bool,
) -> None:
    """Write the mean for one video, over the members that have it, each with its own id for it.

    A video without snippets, for which heads have no output, stays in the list.
    """
    answering = [(opened, name) for opened, name in holders if name in opened.activations]
    answers = [_answer(opened, name, classes) for opened, name in answering]
    nothing = Activations(np.zeros((0, len(classes)), np.float32), None, np.zeros(len(classes), np.float32))
    first, first_name = holders[0]
    mean, grid = mean_activations(answers) if answers else (nothing, first.store.grid(first_name))
    streams = {"cas": mean.cas}
    if attends:
        attention = np.ones(len(mean.cas), np.float32) if mean.attention is None else mean.attention
        streams["attention"] = attention[:, None]
    marks = [opened.activations.fingerprint(name) for opened, name in answering]
    writer.write(key, grid, streams, {"video_scores": mean.video_scores.tolist()}, digest(marks, 16))


def _answer(opened: _Opened, name: str, classes: Sequence[str]) -> MemberActivations:
    """Return a member's activations of a video, comparable and in the common order of classes."""
    member = opened.member
    own, grid = read_activations(opened.activations[name], member.run.classes)
    own = own if member.run.ensemble else comparable(own, member.localize)
    columns = member.columns(classes)
    return MemberActivations(
        Activations(own.cas[:, columns], own.attention, own.video_scores[columns]), grid, member.weight
    )


def _report_lengths(stores: Sequence[FeatureStore], ids: Sequence[Mapping[str, str]], reporter: Reporter) -> None:
    """Report videos whose length differs between stores by more than a snippet: they may be different files."""
    odd = []
    for key in sorted(set().union(*ids)):
        grids = [store.grid(names[key]) for store, names in zip(stores, ids, strict=True) if key in names]
        seconds = [grid.duration for grid in grids]
        if max(seconds) - min(seconds) > max(float(grid.period) for grid in grids):
            odd.append(f"{key} of {min(seconds):.2f} and {max(seconds):.2f} s")
    if odd:
        reporter.say(f"{len(odd)} videos differ in length between members (first: {', '.join(odd[:3])})")


class DetectionParts(EnsembleParts):
    """The members' own detections, pooled on comparable scores; missing ones are computed."""

    def __init__(self, members: Sequence[Member], device: str, reporter: Reporter, only: Only = None) -> None:
        files = [member.run.detections_file() for member in members]
        for member, file in zip(members, files, strict=True):
            if not file.is_file() or not (only or frozenset()) <= read_detections(file).keys():
                detect(member.run, only=only, device=device, reporter=reporter)
        self.detections = [
            {key: own for key, own in read_detections(file).items() if only is None or key in only} for file in files
        ]
        self.begins = [read_made(file).get(BEGINS, {}) for file in files]
        self.marks = [mark_of_file(file) for file in files]
        self.ids = common_ids(self.detections)
        shared = sorted(set.intersection(*(set(names) for names in self.ids)))
        self.scales = [
            typical_best([own[names[key]] for key in shared])
            for own, names in zip(self.detections, self.ids, strict=True)
        ]

    def fill(self, run: Run, identity: Mapping[str, Any]) -> None:
        """Write the ensemble's pool, one file per member."""
        pool: list[dict[str, list[Detection]]] = []
        for own, names, scale in zip(self.detections, self.ids, self.scales, strict=True):
            pool.append({key: [replace(d, score=d.score / scale) for d in own[name]] for key, name in names.items()})
        begins = {
            key: own[name]
            for own, names in zip(self.begins, self.ids, strict=True)
            for key, name in names.items()
            if name in own
        }
        write_pool(run.folder, pool, begins)
