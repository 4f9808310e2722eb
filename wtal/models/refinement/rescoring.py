"""Training and use of a rescorer: training videos with their proposals, the trainer, and detections of one video."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wtal.data.batch import SnippetBatch
from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection, as_array
from wtal.data.store import VideoFeatures
from wtal.errors import WtalError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.suppression import suppress
from wtal.models.refinement.answers import clock_of
from wtal.models.refinement.config import RescoreConfig
from wtal.models.refinement.loop import OnStep, TrainingLoop
from wtal.models.rescorer import ProposalBatch, Rescorer
from wtal.models.training.inputs import Arrays, Scaler, step_indices

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ProposedVideo:
    """A training video: id, loader of (T, D) features, multi-hot labels (C,), proposals; no annotated times.

    `borders`: (M, 2) in snippets; snippet i extends from i to i + 1. A video without labels has no class.
    """

    id: str
    load: Callable[[], Arrays]
    labels: NDArray[np.float32]
    borders: Floats


@dataclass(frozen=True)
class ScoredProposals:
    """Rescored proposals of one video: `borders` (M, 2) in seconds, `scores` (M, C), `video_scores` (C,)."""

    borders: Floats
    scores: Floats
    video_scores: Floats


def distinct_borders(proposals: Sequence[Detection]) -> Floats:
    """Return the distinct borders (M, 2) of proposals of any classes, in seconds, sorted; empty ones are dropped."""
    borders = np.unique(as_array(proposals).reshape(-1, 2), axis=0)
    return borders[borders[:, 1] > borders[:, 0]]


def in_snippets(seconds: Floats, grid: SnippetGrid) -> Floats:
    """(M, 2) seconds -> (M, 2) snippets of a video's own clock; snippet i extends from i to i + 1."""
    middle, period = clock_of(grid)
    return (seconds - middle) / period + 0.5


def proposed_batch(
    videos: Sequence[ProposedVideo], scaler: Scaler, max_proposals: int, rng: np.random.Generator
) -> ProposalBatch:
    """Collate B whole videos; at most `max_proposals` per video, drawn at random from more."""
    borders = []
    for video in videos:
        own = video.borders
        if len(own) > max_proposals:
            own = own[np.sort(rng.choice(len(own), max_proposals, replace=False))]
        borders.append(torch.from_numpy(own))
    labels = torch.from_numpy(np.stack([video.labels for video in videos]))
    snippets = SnippetBatch.collate([scaler(video.load()) for video in videos], labels, [video.id for video in videos])
    return ProposalBatch.collate(snippets, borders)


class RescorerTrainer(TrainingLoop[Rescorer]):
    """One rescorer, one seed, one folder of checkpoints; videos without proposals are not used.

    Raises:
        WtalError: when no labelled video has proposals.
    """

    def __init__(
        self,
        rescorer: Rescorer,
        videos: Sequence[ProposedVideo],
        config: RescoreConfig,
        scaler: Scaler,
        seed: int,
        folder: Path,
        device: str = "cpu",
    ) -> None:
        self.videos = [video for video in videos if len(video.borders)]
        if not any(video.labels.any() for video in self.videos):
            raise WtalError(
                "the teacher has no proposals in any labelled training video; lower its localize.threshold_start"
            )
        self.config, self.device, train = config, torch.device(device), config.train
        rescorer = rescorer.to(self.device)
        steps = config.steps_of(len(self.videos))
        super().__init__(
            rescorer,
            torch.optim.Adam(rescorer.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay),
            scaler,
            config.plain(),
            steps,
            seed,
            folder,
            train.log_every,
            train.checkpoint_every,
        )

    def run(self, on_step: OnStep | None = None) -> None:
        """Train to the last step, from the newest checkpoint if there is one; save the parameters as stage 0."""
        with self.opened() as log:
            self.train_to(self.steps, self._one_step, log, on_step)
            self.write_stage(0)

    def _one_step(self) -> dict[str, float]:
        """Take one optimizer step; return the weighted terms of the loss."""
        train, rng = self.config.train, self.begin_step()
        indices = step_indices(self.seed, self.step, len(self.videos), train.batch_size, [], 0)
        batch = proposed_batch([self.videos[i] for i in indices], self.scaler, train.max_proposals, rng)
        batch = batch.to(self.device)
        terms = self.network.loss(self.network(batch), batch, self.step / self.steps)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1
        return {name: value.item() for name, value in terms.items()}


@torch.inference_mode()
def scored_proposals(
    rescorer: Rescorer, scaler: Scaler, video: VideoFeatures, proposals: Sequence[Detection], device: str = "cpu"
) -> ScoredProposals:
    """Score a teacher's proposals with a rescorer in eval mode, from features of T > 0 snippets."""
    seconds = distinct_borders(proposals)
    snippets = SnippetBatch.collate([scaler(video.streams)])
    batch = ProposalBatch.collate(snippets, [torch.from_numpy(in_snippets(seconds, video.grid))]).to(device)
    output = rescorer(batch)
    return ScoredProposals(seconds, output.scores.double().cpu().numpy(), output.video_scores[0].double().cpu().numpy())


def rescored_detections(
    scored: ScoredProposals,
    classes: Sequence[str],
    shown: NDArray[np.bool_],
    localize: LocalizeConfig,
    config: RescoreConfig,
    period: float,
) -> list[Detection]:
    """Suppress a video's proposals class by class; best first, at most `localize.max_detections`.

    Considered are classes that reach `config.class_threshold`, or else the best, among those that the video may show
    (`shown`, (C,)). A score is the proposal's plus `config.video_weight` times its class's. A snippet lasts `period`
    seconds.
    """
    if not len(scored.borders):
        return []
    selected = _selected(np.where(shown, scored.video_scores, -np.inf), config.class_threshold)
    label = np.repeat(selected, len(scored.borders))
    borders = np.tile(scored.borders, (len(selected), 1))
    scores = (scored.scores[:, selected] + config.video_weight * scored.video_scores[selected]).T.ravel()
    survivors = suppress(
        borders,
        scores,
        label,
        localize.suppression,
        localize.nms_tiou,
        localize.soft_sigma,
        localize.max_detections,
        localize.overlap,
        np.full(len(scores), period) if config.plus_snippet else None,
        localize.fusion_temperature,
    )
    lasting = np.flatnonzero((survivors.borders[:, 1] > survivors.borders[:, 0]) & (survivors.scores > 0))
    best = lasting[np.argsort(-survivors.scores[lasting], kind="stable")][: localize.max_detections]
    rows = zip(
        survivors.borders[best].tolist(), label[survivors.indices[best]], survivors.scores[best].tolist(), strict=True
    )
    return [Detection(start, end, classes[index], score) for (start, end), index, score in rows]


def _selected(video_scores: Floats, threshold: float) -> NDArray[np.int64]:
    """(C,) -> indices of the classes that reach a threshold, or else of the best possible class."""
    reaching = np.flatnonzero(video_scores >= threshold)
    possible = np.flatnonzero(np.isfinite(video_scores))
    return reaching if len(reaching) or not len(possible) else np.array([video_scores.argmax()])
