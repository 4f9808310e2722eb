"""Settings of the second stage; apart from the trainer, so that help texts need no torch."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from wtal.config import Config

Scaling = Literal["teacher", "none", "standard", "soft", "l2"]


class SegmentsConfig(Config):
    """Rules by which the proposals of a training video become pseudo segments, for each class of its labels."""

    min_score: float = 0.0
    """Proposals that do not score more are dropped. FuSTAL (2024): 0.4."""
    min_density: float = Field(2.0, ge=0)
    """Proposals are kept that overlap others of their class by a total tIoU of this much, before suppression. FuSTAL:
    0.2 after it, where what is left overlaps only what is wrong."""
    merging: Literal["fusion", "hard", "none"] = "fusion"
    """Rule for proposals that overlap: they move the better one's borders to a mean weighted by exp(score /
    temperature) (GauFuse, CVPR 2023), or are removed, or stay."""
    merge_tiou: float = Field(0.25, ge=0, le=1)
    """Merging acts on what overlaps a better proposal by more. GauFuse: 0.25 of the worse one's own length."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of that weight; scores are shares of the best of their class in the video. GauFuse: 0.2, and scores
    as they are."""
    min_share: float = Field(0.5, ge=0, le=1)
    """Merged segments are kept that score this share of the best of their class in the video."""
    weighting: Literal["none", "score"] = "none"
    """`score`: a segment's points count by its share of the best score."""
    ignore_density: float = Field(1.0, ge=0)
    """Points in dropped proposals of this density, outside of all segments, take no class loss: they may be action
    (after the mask of uncertain places of PseudoFormer, CVPR 2025)."""
    ignore_share: float = Field(0.25, ge=0)
    """The same asks for this share of the best score, so that the faintest of all proposals hides nothing."""


class StudentTrainConfig(Config):
    """Training of a student; after ActionFormer (ECCV 2022) where not said otherwise."""

    steps: int = Field(600, ge=1)
    """Optimizer steps in all rounds together; ours, for tens of videos. ActionFormer's 35 epochs of THUMOS14 are 3,500
    of batch 2."""
    batch_size: int = Field(8, ge=1, le=1 << 16)
    """Videos in a step; ours. ActionFormer: 2, or 16 on ActivityNet."""
    learning_rate: float = Field(1e-3, gt=0)
    """At its height; ours. ActionFormer: 1e-4 on THUMOS14, 1e-3 on ActivityNet."""
    warm_up: float = Field(0.05, ge=0, le=1)
    """Share of the steps in which the learning rate rises from 0; a cosine to 0 follows."""
    weight_decay: float = Field(0.05, ge=0)
    """Decay of AdamW, on weights of convolutions and linear layers alone."""
    clip_norm: float = Field(1.0, ge=0)
    """Largest norm of a step's gradient; 0 leaves it alone."""
    average_decay: float = Field(0.98, gt=0, le=1)
    """Decay of the moving average of the parameters, which labels anew and detects; ours, for few steps. ActionFormer:
    0.999."""
    scaling: Scaling = "teacher"
    """Scaling of features: as the teacher's head scales them, or as `train.scaling` says; ours."""
    noise: float = Field(0.0, ge=0)
    """Standard deviation of noise added to scaled features in training; ours."""
    max_length: int = Field(2304, ge=1)
    """Longer videos are cut to a random window of so many snippets."""
    video_weight: float = Field(1.0, ge=0)
    """Weight of the video-level term: cross entropy of labels and the mean of each class's best points (FuSTAL, done
    per video). 0 leaves it out."""
    video_ratio: int = Field(8, ge=1)
    """That mean is over max(1, T // ratio) points of T. FuSTAL: 5, of a whole batch."""
    checkpoint_every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    log_every: int = Field(10, ge=1)
    """Steps between lines of `log.jsonl`."""


class RefineConfig(Config):
    """The second stage of a run; ours where not said otherwise."""

    student: dict[str, Any] = Field(
        default_factory=lambda: {"name": "actionformer", "width": 128, "input_dropout": 0.5}
    )
    """`name` of the student and its own settings; ours, for tens of videos."""
    segments: SegmentsConfig = SegmentsConfig()
    train: StudentTrainConfig = StudentTrainConfig()
    rounds: int = Field(1, ge=1, le=3)
    """In the first the teacher's segments teach, in each further one those of the student's moving average, merged with
    the teacher's that they do not overlap."""
    first_share: float = Field(0.6, gt=0, le=1)
    """Share of the steps that the first round has; the others share the rest."""
    min_agreement: float = Field(0.9, ge=0, le=1)
    """A round whose segments agree with those before by a mean tIoU of more teaches nothing new, and is left out."""
    score_power: float = Field(0.5, ge=0, le=1)
    """A detection's score is student ** power * video score of the teacher ** (1 - power)."""
    teacher_share: float = Field(0.5, ge=0, le=1)
    """Share of the teacher in a detection's borders: of the mean of the teacher's detections that overlap it by
    `teacher_tiou`, each by its score times its overlap, as ActionFormer's voting weighs candidates."""
    teacher_tiou: float = Field(0.7, gt=0, le=1)
    """That overlap; a detection that no one of the teacher's overlaps so far keeps its borders."""
    soft_sigma: float = Field(0.5, gt=0)
    """Width of the Gaussian suppression of the student's detections."""
    max_detections: int = Field(200, ge=1)
    """Kept a video, the best."""

    @property
    def student_name(self) -> str:
        """Name of the student's leaf."""
        return str(self.student.get("name", "actionformer"))

    @property
    def student_settings(self) -> dict[str, Any]:
        """The student's own settings."""
        return {key: value for key, value in self.student.items() if key != "name"}

    def round_ends(self) -> list[int]:
        """Return the step at which each round ends, without repeats."""
        steps, more = self.train.steps, self.rounds - 1
        first = round(steps * self.first_share) if more else steps
        ends = [first + round((steps - first) * number / max(more, 1)) for number in range(more + 1)]
        return sorted({max(end, 1) for end in ends})


class RescorerTrainConfig(Config):
    """Training of a rescorer; after P-MIL (CVPR 2023) where not said otherwise."""

    steps: int = Field(400, ge=1)
    """Optimizer steps, where `epochs` is 0; ours. P-MIL's 200 epochs of THUMOS14 are 4,000."""
    epochs: int = Field(0, ge=0)
    """Passes over the training videos, in place of `steps`; 0 counts steps. P-MIL: 200."""
    batch_size: int = Field(10, ge=1, le=1 << 16)
    """Videos in a step, each whole."""
    learning_rate: float = Field(1e-4, gt=0)
    """Learning rate of Adam; ours, for fewer steps and narrower layers. P-MIL: 5e-5."""
    weight_decay: float = Field(1e-3, ge=0)
    """Decay of Adam."""
    max_proposals: int = Field(300, ge=1)
    """Of a video with more, so many are drawn anew in each step; ours. P-MIL: 1000."""
    scaling: Scaling = "teacher"
    """Scaling of features: as the teacher's head scales them, or as `train.scaling` says; ours."""
    checkpoint_every: int = Field(100, ge=1)
    """Steps between checkpoints."""
    log_every: int = Field(10, ge=1)
    """Steps between lines of `log.jsonl`."""


class RescoreConfig(Config):
    """The second stage that scores a run's proposals anew, where `[refine.rescorer]` is said; after P-MIL (CVPR 2023).

    It has no pseudo segments and no rounds, and takes none of their keys. Which proposals there are is said by the
    `[localize]` of the teacher.
    """

    rescorer: dict[str, Any] = Field(default_factory=lambda: {"name": "pmil"})
    """`name` of the rescorer and its own settings."""
    train: RescorerTrainConfig = RescorerTrainConfig()
    class_threshold: float = 0.2
    """Classes with a lower video score, by the rescorer, are left out; the best stays."""
    video_weight: float = 0.2
    """How much of a class's video score is added to the score of each proposal."""
    soft_sigma: float = Field(0.3, gt=0)
    """Width of the Gaussian suppression."""
    plus_snippet: bool = False
    """Add a snippet to lengths and intersections in suppression, as the public code does."""
    max_detections: int = Field(200, ge=1)
    """Kept a video, the best; ours."""

    @property
    def rescorer_name(self) -> str:
        """Name of the rescorer's leaf."""
        return str(self.rescorer.get("name", "pmil"))

    @property
    def rescorer_settings(self) -> dict[str, Any]:
        """The rescorer's own settings."""
        return {key: value for key, value in self.rescorer.items() if key != "name"}


SecondStage = RefineConfig | RescoreConfig


def second_stage(values: object, where: str = "refine") -> SecondStage:
    """Parse the table of a second stage: of a rescorer where it names one, of a student otherwise.

    Raises:
        ConfigError: when a key is unknown, or a value does not fit.
    """
    kind: type[SecondStage] = RescoreConfig if isinstance(values, Mapping) and "rescorer" in values else RefineConfig
    return kind.parse(values, where)
