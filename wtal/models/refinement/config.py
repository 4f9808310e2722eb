"""Settings of the second stage; separate from the trainer, so that help texts need no torch."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from wtal.config import Config

Scaling = Literal["teacher", "none", "standard", "soft", "l2"]


class SegmentsConfig(Config):
    """Rules that turn the proposals of a training video into pseudo segments, for each of its labelled classes."""

    min_score: float = 0.0
    """Proposals are kept only if they score more. FuSTAL (2024): 0.4."""
    min_density: float = Field(2.0, ge=0)
    """Minimum total tIoU of a proposal with others of its class, before suppression. FuSTAL: 0.2 after it, where the
    remaining proposals overlap only wrong ones."""
    merging: Literal["fusion", "hard", "none"] = "fusion"
    """Rule for overlapping proposals: move the better one's borders to a mean weighted by exp(score / temperature)
    (GauFuse, CVPR 2023), remove the others, or keep all."""
    merge_tiou: float = Field(0.25, ge=0, le=1)
    """Merging acts on proposals that overlap a better one by more. GauFuse: 0.25 of the lower-scored one's length."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of that weight; scores are relative to the best of their class in the video. GauFuse: 0.2, with
    absolute scores."""
    min_share: float = Field(0.5, ge=0, le=1)
    """Merged segments are kept if they score at least this share of the best of their class in the video."""
    weighting: Literal["none", "score"] = "none"
    """`score`: a segment's points are weighted by its share of the best score."""
    ignore_density: float = Field(1.0, ge=0)
    """Points in dropped proposals of this density, outside all segments, get no class loss: they may be action (after
    PseudoFormer's mask of uncertain regions, CVPR 2025)."""
    ignore_share: float = Field(0.25, ge=0)
    """Minimum share of the best score for that, so that the weakest proposals mask nothing."""


class StudentTrainConfig(Config):
    """Training of a student; after ActionFormer (ECCV 2022) unless noted."""

    steps: int = Field(600, ge=1)
    """Total optimizer steps of all rounds; ours, for tens of videos. ActionFormer's 35 epochs on THUMOS14 are 3,500
    steps of batch size 2."""
    batch_size: int = Field(8, ge=1, le=1 << 16)
    """Videos per step; ours. ActionFormer: 2, or 16 on ActivityNet."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate; ours. ActionFormer: 1e-4 on THUMOS14, 1e-3 on ActivityNet."""
    warm_up: float = Field(0.05, ge=0, le=1)
    """Share of the steps in which the learning rate rises from 0; a cosine to 0 follows."""
    weight_decay: float = Field(0.05, ge=0)
    """Decay of AdamW, on weights of convolutions and linear layers only."""
    clip_norm: float = Field(1.0, ge=0)
    """Maximum norm of a step's gradient; 0: no limit."""
    average_decay: float = Field(0.98, gt=0, le=1)
    """Decay of the moving average of the parameters, which relabels and detects; ours, for few steps. ActionFormer:
    0.999."""
    scaling: Scaling = "teacher"
    """Scaling of features: as in the teacher's head, or one of the values of `train.scaling`; ours."""
    noise: float = Field(0.0, ge=0)
    """Standard deviation of noise added to scaled features in training; ours."""
    max_length: int = Field(2304, ge=1)
    """Longer videos are cut to a random window of this many snippets."""
    video_weight: float = Field(1.0, ge=0)
    """Weight of the video-level term: cross entropy between labels and the mean of each class's best points (FuSTAL,
    here per video). 0 omits it."""
    video_ratio: int = Field(8, ge=1)
    """The best max(1, T // ratio) of T points count in that mean. FuSTAL: 5, over a whole batch."""
    checkpoint_every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    log_every: int = Field(10, ge=1)
    """Steps between lines of `log.jsonl`."""


class RefineConfig(Config):
    """The second stage of a run; ours unless noted."""

    student: dict[str, Any] = Field(
        default_factory=lambda: {"name": "actionformer", "width": 128, "input_dropout": 0.5}
    )
    """`name` of the student and its own settings; ours, for tens of videos."""
    segments: SegmentsConfig = SegmentsConfig()
    train: StudentTrainConfig = StudentTrainConfig()
    rounds: int = Field(1, ge=1, le=3)
    """Number of rounds. The first trains on the teacher's segments, each further one on those of the student's moving
    average, plus the teacher's segments that these do not overlap."""
    first_share: float = Field(0.6, gt=0, le=1)
    """Share of the steps in the first round; the others divide the rest."""
    min_agreement: float = Field(0.9, ge=0, le=1)
    """A round is skipped if its segments agree with the previous ones by a higher mean tIoU: they add nothing."""
    score_power: float = Field(0.15, ge=0, le=1)
    """A detection's score is support ** power * score of the teacher's proposal ** (1 - power); its support is the best
    score * tIoU ** 2 of the student's segments."""
    border_share: float = Field(0.0, ge=0, le=1)
    """Share of the student in a detection's borders: of the mean of its segments that overlap the proposal by
    `border_tiou`, weighted by score times overlap, as in ActionFormer's voting."""
    border_tiou: float = Field(0.5, gt=0, le=1)
    """Minimum overlap for that; a detection without such an overlap keeps its borders."""
    soft_sigma: float = Field(0.5, gt=0)
    """Width of the Gaussian in the suppression of the detections."""
    max_detections: int = Field(200, ge=1)
    """Maximum number of detections per video, the best."""

    @property
    def student_name(self) -> str:
        """Name of the student's leaf."""
        return str(self.student.get("name", "actionformer"))

    @property
    def student_settings(self) -> dict[str, Any]:
        """The student's own settings."""
        return {key: value for key, value in self.student.items() if key != "name"}

    def steps_of(self, videos: int) -> int:
        """Return the steps of all rounds, regardless of the number of `videos`."""
        return self.round_ends()[-1]

    def round_ends(self) -> list[int]:
        """Return the step at which each round ends, without repeats."""
        steps, more = self.train.steps, self.rounds - 1
        first = round(steps * self.first_share) if more else steps
        ends = [first + round((steps - first) * number / max(more, 1)) for number in range(more + 1)]
        return sorted({max(end, 1) for end in ends})


class RescorerTrainConfig(Config):
    """Training of a rescorer; after P-MIL (CVPR 2023) unless noted."""

    steps: int = Field(400, ge=1)
    """Optimizer steps, if `epochs` is 0; ours. P-MIL's 200 epochs on THUMOS14 are 4,000 steps."""
    epochs: int = Field(0, ge=0)
    """Passes over the training videos, instead of `steps`; 0: use `steps`. P-MIL: 200."""
    batch_size: int = Field(10, ge=1, le=1 << 16)
    """Videos per step, each whole."""
    learning_rate: float = Field(1e-4, gt=0)
    """Learning rate of Adam; ours, for fewer steps and narrower layers. P-MIL: 5e-5."""
    weight_decay: float = Field(1e-3, ge=0)
    """Decay of Adam."""
    max_proposals: int = Field(300, ge=1)
    """Maximum number of proposals per video; from more, this many are drawn in each step; ours. P-MIL: 1000."""
    scaling: Scaling = "teacher"
    """Scaling of features: as in the teacher's head, or one of the values of `train.scaling`; ours."""
    checkpoint_every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    log_every: int = Field(10, ge=1)
    """Steps between lines of `log.jsonl`."""


class RescoreConfig(Config):
    """The second stage that rescores a run's proposals, chosen by `[refine.rescorer]`; after P-MIL (CVPR 2023).

    It has no pseudo segments and no rounds, and accepts none of their keys. The proposals depend on the teacher's
    `[localize]`.
    """

    rescorer: dict[str, Any] = Field(default_factory=lambda: {"name": "pmil"})
    """`name` of the rescorer and its own settings."""
    train: RescorerTrainConfig = RescorerTrainConfig()
    class_threshold: float = 0.2
    """Classes with a lower video score from the rescorer are skipped, except the best."""
    video_weight: float = 0.2
    """Weight of a class's video score in the score of each proposal."""
    soft_sigma: float = Field(0.3, gt=0)
    """Width of the Gaussian in suppression."""
    plus_snippet: bool = False
    """Add a snippet to lengths and intersections in suppression, as the public code does."""
    max_detections: int = Field(200, ge=1)
    """Maximum number of detections per video, the best; ours."""

    def steps_of(self, videos: int) -> int:
        """Return the steps over `videos` training videos."""
        return self.train.epochs * math.ceil(videos / self.train.batch_size) or self.train.steps

    @property
    def rescorer_name(self) -> str:
        """Name of the rescorer's leaf."""
        return str(self.rescorer.get("name", "pmil"))

    @property
    def rescorer_settings(self) -> dict[str, Any]:
        """The rescorer's own settings."""
        return {key: value for key, value in self.rescorer.items() if key != "name"}


SecondStage = RefineConfig | RescoreConfig


def second_stage(values: object) -> SecondStage:
    """Parse the table `[refine]` of a second stage: of a rescorer if it names one, of a student otherwise.

    Raises:
        ConfigError: when a key is unknown or a value invalid.
    """
    kind: type[SecondStage] = RescoreConfig if isinstance(values, Mapping) and "rescorer" in values else RefineConfig
    return kind.parse(values, section="refine")
