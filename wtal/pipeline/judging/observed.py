"""What a run says of single videos: its stored activations, its detections as judged, and its head, asked anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.dataset import VideoRecord, match_ids
from wtal.data.store import FeatureStore, VideoFeatures
from wtal.errors import UsageError
from wtal.eval.per_video import Verdict, judge_videos
from wtal.pipeline.detect import activations_folder, localize_settings, read_activations, trained_head
from wtal.pipeline.judging.evaluate import Question, Source, judged_of, only_source, rules_of
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.train import resolve
from wtal.pipeline.workspace import read_run
from wtal.registry import suggest
from wtal.report.activations import Case

if TYPE_CHECKING:
    from wtal.models.localization.config import LocalizeConfig
    from wtal.models.training.checkpoint import Trained

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Answer:
    """What a head said of one video that it was told the labels of, without padding.

    `embeddings` are stream -> (T, E), `pseudo_labels` as `Head.pseudo_labels` names them. `means` (K, E) are the
    video's representative snippets and `mean_labels` (K,) the most probable class of each, C where that is the
    background; None where the head has none.
    """

    embeddings: Arrays
    pseudo_labels: Arrays
    means: NDArray[np.float32] | None
    mean_labels: NDArray[np.int64] | None


@dataclass(frozen=True)
class Observed:
    """A seed of a run, on the videos of one subset that its detections are judged on.

    Annotated times are looked at for showing alone.
    """

    folder: Path
    run: dict[str, Any]
    source: Source
    records: dict[str, VideoRecord]
    verdicts: dict[str, Verdict]
    at: float
    question: Question

    @property
    def classes(self) -> list[str]:
        """The run's, in order."""
        return list(self.run["classes"])

    @cached_property
    def localize(self) -> "LocalizeConfig":
        """What the detections were made with."""
        streams = self.question.streams
        return localize_settings(self.folder, [] if streams is None else [f'localize.streams="{streams}"'])

    @cached_property
    def activations(self) -> FeatureStore:
        """What `wtal detect` has kept."""
        return FeatureStore.open(activations_folder(self.folder, self.question.stage))

    @cached_property
    def keys(self) -> dict[str, str]:
        """Id of an annotated video -> its id in the store, of those that have activations."""
        return match_ids(self.records, self.activations.ids)

    def case(self, role: str, video: str) -> Case:
        """One of the `keys`, and why it is shown."""
        said, grid = read_activations(self.activations[self.keys[video]], self.classes)
        return Case(role, video, self.verdicts[video], said, grid)

    def scores(self, video: str) -> dict[str, float]:
        """Class -> video score of one of the `keys`."""
        values = self.activations[self.keys[video]].info["video_scores"]
        return dict(zip(self.classes, values, strict=True))

    @cached_property
    def features(self) -> FeatureStore:
        """What the head is asked with.

        Raises:
            WtalError: when the store has gone.
        """
        return FeatureStore.open(resolve(self.folder, self.run["store"]))

    def trained(self, stage: int | None) -> "Trained":
        """The head as the run has left it, or as it was at the end of a stage."""
        return trained_head(
            self.folder, self.run, Recipe.parse(self.run["recipe"], str(self.folder / "run.json")), stage
        )

    def ask(self, trained: "Trained", video: str) -> Answer:
        """One of the `keys`, with its labels.

        Raises:
            StoreError: when the store does not hold its features any more.
        """
        import torch

        from wtal.data.batch import stream_order
        from wtal.models.inference import ask

        labels = [float(name in self.records[video].labels) for name in self.classes]
        features: VideoFeatures = replace(self.features[self.keys[video]], id=video)
        output, batch = ask(trained.head, trained.scaler, features, torch.tensor(labels))
        with torch.inference_mode():
            taught = trained.head.pseudo_labels(output, batch)
        means, labels_of_means = None, None
        representatives = trained.head.representative_snippets(output)
        if representatives is not None:
            present = representatives.present[0]
            means = representatives.features[0][present].float().numpy()
            labels_of_means = representatives.classes[0][present].argmax(dim=-1).numpy()
        embeddings = {name: output.embeddings[name] for name in stream_order(output.embeddings)}
        return Answer(_first(embeddings), _first(taught), means, labels_of_means)


def observe(folder: Path, question: Question, at: float, reporter: Reporter = SILENT) -> Observed:
    """A seed of a run, as `wtal detect` and the question's `streams` and `stage` have left it.

    Raises:
        UsageError: when the folder is no single seed, has no detections, or its subset no segments.
        StoreError: when its activations have gone.
    """
    source = only_source(folder, question)
    if source.folder is None:
        raise UsageError(f"activations are drawn of a run's folder, {folder} is a file")
    truth, tious, _ = rules_of(source, question)
    verdicts = judge_videos(truth.annotations, judged_of(source, truth, reporter), tious, at)
    records = {record.id: record for record in truth.records}
    return Observed(source.folder, read_run(source.folder), source, records, verdicts, at, question)


def chosen(observed: Observed, videos: Sequence[str]) -> dict[str, str]:
    """Why it is shown -> video: those that are named, or of all the best, the median and the worst.

    Of equally good videos the one with most annotations is shown, and of these the first by name.

    Raises:
        UsageError: when a named video is not in the subset, or has no activations.
    """
    if videos:
        present = match_ids(videos, observed.keys)
        missing = [name for name in videos if name not in present]
        if missing:
            raise UsageError(
                f"there are no activations of {missing[0]!r} in the subset; {suggest(missing[0], observed.keys)}"
            )
        return {f"video {i}": name for i, name in enumerate(dict.fromkeys(present.values()), 1)}
    ranked = ranked_videos(observed)
    if not ranked:
        return {}
    best = max(ranked, key=lambda name: (*_worth(observed.verdicts, name), -ranked.index(name)))
    picked = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": best}
    kept = {video: role for role, video in picked.items()}
    return {role: video for video, role in reversed(kept.items())}


def ranked_videos(observed: Observed) -> list[str]:
    """Annotated videos with activations, the worst first."""
    verdicts = observed.verdicts
    judged = [name for name in observed.keys if verdicts[name].ap is not None]
    return sorted(judged, key=lambda name: (_worth(verdicts, name)[0], -_worth(verdicts, name)[1], name))


def _worth(verdicts: Mapping[str, Verdict], video: str) -> tuple[float, int]:
    ap = verdicts[video].ap
    return (0.0 if ap is None else ap, len(verdicts[video].annotations))


def _first(values: Mapping[str, Any]) -> Arrays:
    return {name: value[0].float().cpu().numpy() for name, value in values.items()}
