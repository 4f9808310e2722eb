"""A run on single videos: its stored activations, its evaluated detections, and its head, rerun with the labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wtal.data.dataset import VideoRecord
from wtal.data.names import match_ids
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore, VideoFeatures
from wtal.errors import UsageError
from wtal.eval.diagnosis.per_video import VideoEvaluation, judge_videos
from wtal.pipeline.activations import read_activations, trained_head
from wtal.pipeline.judging.ground_truth import Rules
from wtal.pipeline.judging.sources import Question, Source
from wtal.pipeline.runs import Run
from wtal.registry import suggest
from wtal.report.activations import PicturedVideo

if TYPE_CHECKING:
    from wtal.models.head import Head
    from wtal.models.localization.config import LocalizeConfig
    from wtal.models.training.checkpoint import Trained

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Internals:
    """Internal values of a head on one video with its labels, without padding.

    `embeddings` map stream -> (T, E), `pseudo_labels` have the names of `Head.pseudo_labels`. `means` (K, E) are the
    representative snippets of the video and `mean_labels` (K,) the most probable class of each, C for the background;
    None if the head has none.
    """

    embeddings: Arrays
    pseudo_labels: Arrays
    means: NDArray[np.float32] | None
    mean_labels: NDArray[np.int64] | None


@dataclass(frozen=True)
class Observed:
    """A seed of a run, on the evaluated videos of one subset.

    Annotated times are for display only.
    """

    run: Run
    records: dict[str, VideoRecord]
    evaluations: dict[str, VideoEvaluation]
    at: float
    question: Question

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the head's outputs."""
        return list(self.run.classes)

    @cached_property
    def localize(self) -> "LocalizeConfig":
        """Localization settings of the detections."""
        streams = self.question.streams
        return self.run.localize([] if streams is None else [f'localize.streams="{streams}"'])

    @cached_property
    def activations(self) -> FeatureStore:
        """Activations stored by `wtal detect`."""
        return FeatureStore.open(self.run.activations_folder(self.question.stage))

    @cached_property
    def keys(self) -> dict[str, str]:
        """Ids of annotated videos that have activations -> their ids in the store."""
        return match_ids(self.records, self.activations.ids)

    def pictured_video(self, role: str, video: str) -> PicturedVideo:
        """Return one of the `keys` for a picture; `role` is the reason for showing it."""
        activations, grid = read_activations(self.activations[self.keys[video]], self.classes)
        return PicturedVideo(role, video, self.evaluations[video], activations, grid)

    def scores(self, video: str) -> dict[str, float]:
        """Return class -> video score of one of the `keys`."""
        values = self.activations[self.keys[video]].info["video_scores"]
        return dict(zip(self.classes, values, strict=True))

    @cached_property
    def features(self) -> FeatureStore:
        """Features that the head was trained on.

        Raises:
            WtalError: when the store is missing.
        """
        return self.run.store()

    def trained(self, stage: int | None) -> "Trained[Head]":
        """Load the head as at the end of training, or of a stage."""
        return trained_head(self.run, stage)

    def ask(self, trained: "Trained[Head]", video: str) -> Internals:
        """Run the head on one of the `keys`, with its labels.

        Raises:
            StoreError: when the store no longer holds its features.
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
        return Internals(_first(embeddings), _first(taught), means, labels_of_means)


def observe(
    source: Source, rules: Rules, judged: Mapping[str, Sequence[Detection]], question: Question, at: float
) -> Observed:
    """Evaluate each video of a run separately; `judged` are the source's detections, by the ids of the annotations.

    Raises:
        UsageError: when the source is not a run.
    """
    if source.run is None:
        raise UsageError(f"activations are drawn from a run's folder, but {source.file} is a file")
    evaluations = judge_videos(rules.truth.annotations, judged, rules.tious, at)
    records = {record.id: record for record in rules.truth.records}
    return Observed(source.run, records, evaluations, at, question)


def chosen(observed: Observed, videos: Sequence[str]) -> dict[str, str]:
    """Return role -> video: the given ones, or the best, the median and the worst of all.

    Among equally good videos, the one with most annotations is shown, and of these the first by name.

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
    best = max(ranked, key=lambda name: (*_worth(observed.evaluations, name), -ranked.index(name)))
    picked = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": best}
    roles = {video: role for role, video in picked.items()}
    return {role: video for video, role in reversed(roles.items())}


def ranked_videos(observed: Observed) -> list[str]:
    """Return the annotated videos with activations, the worst first."""
    evaluations = observed.evaluations
    judged = [name for name in observed.keys if evaluations[name].ap is not None]
    return sorted(judged, key=lambda name: (_worth(evaluations, name)[0], -_worth(evaluations, name)[1], name))


def _worth(evaluations: Mapping[str, VideoEvaluation], video: str) -> tuple[float, int]:
    ap = evaluations[video].ap
    return (0.0 if ap is None else ap, len(evaluations[video].annotations))


def _first(values: Mapping[str, Any]) -> Arrays:
    return {name: value[0].float().cpu().numpy() for name, value in values.items()}
