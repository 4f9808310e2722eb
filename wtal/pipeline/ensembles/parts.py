"""What an ensemble is made of, read from its members: activations to be averaged, or detections to be pooled."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wtal.config import digest
from wtal.data.detections import read_detections
from wtal.data.store import FeatureStore
from wtal.data.store.writer import StoreWriter
from wtal.models.localization.ensemble import MemberActivations, comparable, mean_activations, typical_best
from wtal.models.localization.signals import Activations
from wtal.pipeline.detect import activations_of, detect, detections_of, read_activations
from wtal.pipeline.ensemble_run import ACTIVATIONS, ensemble_by, open_means, write_pool
from wtal.pipeline.ensembles.members import Member, common_ids, mark_of_file, mark_of_store
from wtal.pipeline.progress import Reporter
from wtal.pipeline.train import resolve


@dataclass(frozen=True)
class Parts:
    """What an ensemble is made of: a mark of each member's answers, common id -> its own, and what fills a folder."""

    marks: list[str]
    ids: list[dict[str, str]]
    fill: Callable[[Path, Mapping[str, Any]], None]


def means(members: Sequence[Member], device: str, reporter: Reporter) -> Parts:
    """Means of the members' activations."""
    opened = [_opened(member, device, reporter) for member in members]
    ids = common_ids([store.ids for store, _ in opened])
    kept = [made for _, made in opened]

    def fill(folder: Path, identity: Mapping[str, Any]) -> None:
        writer = StoreWriter.open(folder / ACTIVATIONS, {"ensemble": dict(identity)})
        attends = any("attention" in made.dims for made in kept)
        everything = sorted(set().union(*ids))
        _say_lengths([store for store, _ in opened], ids, reporter)
        with reporter.task("average", len(everything), "video") as task:
            for key in everything:
                if not writer.done(key):
                    rows = zip(members, opened, ids, strict=True)
                    here = [(one, *stores, names[key]) for one, stores, names in rows if key in names]
                    _write_mean(writer, key, here, members[0].run["classes"], attends)
                task.advance()
        writer.publish()

    return Parts([mark_of_store(made) for made in kept], ids, fill)


def _opened(member: Member, device: str, reporter: Reporter) -> tuple[FeatureStore, FeatureStore]:
    """A member's videos and its activations, which are computed where they are missing."""
    if ensemble_by(member.run):
        means = open_means(member.folder, member.run)
        return means, means
    store = FeatureStore.open(resolve(member.folder, member.run["store"]))
    return store, activations_of(member.folder, member.run, store, store.ids, device, reporter, None)


def _write_mean(
    writer: StoreWriter,
    key: str,
    here: Sequence[tuple[Member, FeatureStore, FeatureStore, str]],
    classes: Sequence[str],
    attends: bool,
) -> None:
    """One video, of members with their stores, activations and names of it.

    One without snippets, which no head has answered for, keeps its place.
    """
    answers = [_answer(member, made, name, classes) for member, _, made, name in here if name in made]
    nothing = Activations(np.zeros((0, len(classes)), np.float32), None, np.zeros(len(classes), np.float32))
    _, store, _, first = here[0]
    mean, grid = mean_activations(answers) if answers else (nothing, store.grid(first))
    streams = {"cas": mean.cas}
    if attends:
        streams["attention"] = (np.ones(len(mean.cas), np.float32) if mean.attention is None else mean.attention)[
            :, None
        ]
    marks = [made.fingerprint(name) for _, _, made, name in here if name in made]
    writer.write(key, grid, streams, {"video_scores": mean.video_scores.tolist()}, digest(marks, 16))


def _answer(member: Member, made: FeatureStore, name: str, classes: Sequence[str]) -> MemberActivations:
    """What a member says of a video, comparable and in the common order of classes."""
    said, grid = read_activations(made[name], member.run["classes"])
    said = said if ensemble_by(member.run) else comparable(said, member.localize)
    columns = member.columns(classes)
    said = Activations(said.cas[:, columns], said.attention, said.video_scores[columns])
    return MemberActivations(said, grid, member.weight)


def _say_lengths(stores: Sequence[FeatureStore], ids: Sequence[Mapping[str, str]], reporter: Reporter) -> None:
    """Say which videos are longer in one store than in another, by more than a snippet: they may be other files."""
    odd = []
    for key in sorted(set().union(*ids)):
        grids = [store.grid(names[key]) for store, names in zip(stores, ids, strict=True) if key in names]
        seconds = [grid.duration for grid in grids]
        if max(seconds) - min(seconds) > max(float(grid.period) for grid in grids):
            odd.append(f"{key} of {min(seconds):.2f} and {max(seconds):.2f} s")
    if odd:
        reporter.say(f"{len(odd)} videos are not of one length with all members (first: {', '.join(odd[:3])})")


def pool(members: Sequence[Member], device: str, reporter: Reporter) -> Parts:
    """The members' own detections, on comparable scores."""
    files = [detections_of(member.folder) for member in members]
    for member, file in zip(members, files, strict=True):
        if not file.is_file():
            detect(member.folder, device=device, reporter=reporter)
    found = [read_detections(file) for file in files]
    ids = common_ids(found)
    shared = sorted(set.intersection(*(set(names) for names in ids)))

    def fill(folder: Path, identity: Mapping[str, Any]) -> None:
        made = []
        for one, names in zip(found, ids, strict=True):
            scale = typical_best([one[names[key]] for key in shared])
            made.append({key: [replace(d, score=d.score / scale) for d in one[name]] for key, name in names.items()})
        write_pool(folder, made)

    return Parts([mark_of_file(file) for file in files], ids, fill)
