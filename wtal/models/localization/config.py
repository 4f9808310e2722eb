"""Settings of localization: how activations become detections. A preset is laid under what is said."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from wtal.config import Config
from wtal.errors import ConfigError
from wtal.models.localization.presets import read_preset

Quirk = Literal[
    "relu-range",
    "first-position",
    "uneven-rings",
    "extra-snippet",
    "zero-below",
    "score-one",
    "lost-first",
    "plus-second",
    "plus-snippet",
]

FUSED, UNION = "fused", "union"

_MOST_THRESHOLDS = 10_000
"""More of them move nothing, and a step that is too small would fill the memory."""


class LocalizeConfig(Config):
    """Defaults follow BaS-Net (AAAI 2020) where not said otherwise."""

    preset: str = Field("", exclude=True)
    """Values to start from, in place of the defaults: a name of `wtal list presets`, or the path of a TOML file with a
    `[localize]` section, as `wtal tune` writes it. What is kept are the values, not the name."""
    streams: str = FUSED
    """Of heads with a model per stream: `fused` is their common answer, the name of a stream its own alone, `union`
    finds in each and pools what was found (STPN, CVPR 2018; FAC-Net's code)."""
    stream_weights: dict[str, float] = Field(default_factory=dict)
    """Of scores under `union`; FAC-Net's code: 0.1 for rgb, so that detections of flow come first. Others have 1."""
    stream_mix: float = Field(1.0, ge=0, le=1)
    """Under `union`: weight of a stream's own class activations in its scores, the rest the others'. STPN: 0.5."""
    union_tiou: float = Field(0.9, ge=0, le=1)
    """Hard suppression of the pool under `union`. FAC-Net's code: 0.9."""
    signal: Literal["cas", "attention", "product"] = "cas"
    """What is thresholded: a class's activation, the attention, or their product."""
    score_signal: Literal["signal", "cas", "attention", "product"] = "signal"
    """What a proposal is scored on."""
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    """Applied to the class logits over classes (softmax) or each alone (sigmoid)."""
    range: Literal["none", "video", "class"] = "class"
    """Signals are stretched to [0, 1] by the extremes of each class in a video, or of the whole video."""
    score_range: Literal["same", "none", "video", "class"] = "same"
    """The same of what a proposal is scored on; `same` is what `range` says. W-TALC scores raw activations: none."""
    smooth: float = Field(0.0, ge=0)
    """Standard deviation, in snippets, of a Gaussian over the activations; ours, 0 leaves them alone."""
    upsample: int = Field(8, ge=1)
    """Linear interpolation to this many positions a snippet. BaS-Net: 24; beyond 8 results no longer move."""
    upsample_factors: bool = False
    """Upsample the two factors of `product` before they are multiplied, not their product (TSCN, HACS 2021)."""
    threshold_start: float = 0.0
    """Lowest threshold of the signal."""
    threshold_stop: float = 0.25
    """End of the thresholds, itself excluded."""
    threshold_step: float = Field(0.025, gt=0)
    """From one threshold to the next."""
    thresholds: tuple[float, ...] = ()
    """The thresholds themselves, where they are not evenly spaced; in place of start, stop and step."""
    second_signal: Literal["none", "cas", "attention", "product"] = "none"
    """A second signal whose runs are proposals too, scored as the others (UM, AAAI 2021: the attention)."""
    second_start: float = 0.0
    """Lowest threshold of the second signal."""
    second_stop: float = 1.0
    """End of its thresholds, itself excluded."""
    second_step: float = Field(0.025, gt=0)
    """From one of them to the next."""
    grouping: Literal["runs", "watershed"] = "runs"
    """What is above a threshold becomes proposals as it is, or joined over gaps too (SSN, ICCV 2017; LGBM-Net)."""
    tolerances: tuple[float, ...] = Field((0.0, 0.1, 0.2, 0.3), min_length=1)
    """Of `watershed`: shares of a proposal that may lie below the threshold; 0 is the runs alone."""
    min_length: int = Field(1, ge=1)
    """Shortest run kept, in upsampled positions."""
    class_threshold: float = 0.25
    """Classes with a lower video score are left out."""
    max_classes: int = Field(0, ge=0)
    """At most this many classes a video, the best; 0 is no limit."""
    class_from: Literal["video_scores", "cas"] = "video_scores"
    """What a class's score is: the head's, or the mean of its highest logits over time (W-TALC, ECCV 2018)."""
    class_top_ratio: int = Field(8, ge=1)
    """Under `cas`: of T snippets the max(1, T // ratio) highest count."""
    fallback: bool = True
    """Keep the best class where none reaches the threshold. BaS-Net's code drops such a video."""
    inner: Literal["mean", "max", "total"] = "mean"
    """What counts inside a proposal. W-TALC: max; SSN: total, their sum."""
    inflation: float = Field(0.25, ge=0)
    """The outer region reaches this share of the proposal's length beyond each end."""
    outer_weight: float = 1.0
    """Weight of the outer mean in inner - outer."""
    video_weight: float = 0.2
    """gamma: how much of the class's video score is added."""
    video_power: float = 0.0
    """The whole score is multiplied by the video score to this power; ours, 0 leaves it alone."""
    suppression: Literal["hard", "soft", "linear", "fusion", "none"] = "hard"
    """Of proposals of one class that overlap: the worse are removed, or their scores lowered (`soft` by a Gaussian of
    the overlap, `linear` by the overlap where it is beyond `nms_tiou`), or (`fusion`) they are removed and move the
    better one's borders to the mean of all, weighted by their scores (Gidaris and Komodakis, ICCV 2015). `none` keeps
    all that `max_detections` lets."""
    overlap: Literal["tiou", "lower"] = "tiou"
    """Intersection over union, or over the length of the worse proposal (code of FAC-Net and RSKP)."""
    nms_tiou: float = Field(0.7, ge=0, le=1)
    """Suppression that is not soft acts on what overlaps a better proposal by more."""
    soft_sigma: float = Field(0.3, gt=0)
    """Soft suppression multiplies scores by exp(-tiou^2 / sigma) (Bodla et al., ICCV 2017)."""
    fusion_temperature: float = Field(0.0, ge=0)
    """Under `fusion`: borders and scores are means weighted by exp(score / temperature) (GauFuse, CVPR 2023: 0.2, and
    `overlap = "lower"` beyond 0.25); 0 weighs borders by scores."""
    max_detections: int = Field(200, ge=1)
    """Kept a video, the best."""
    quirks: tuple[Quirk, ...] = ()
    """What authors' code does besides, for `authors:` presets. `relu-range`: extremes below 0 count as 0.
    `first-position`: upsampled positions start at a snippet's middle and run on in a straight line beyond the last.
    `uneven-rings`: of a broken length, the ring before a proposal is rounded up and the one after it down.
    `extra-snippet`: proposals are scored and end one snippet later, be it beyond the end. `zero-below`: what is not
    above the proposal's threshold is scored as 0. `score-one`: kept classes have a score of 1. `lost-first`: a video
    that shows the first class alone is dropped, and so is a run of the first position alone. `plus-second`,
    `plus-snippet`: suppression adds that to lengths and intersections."""
    tuned_with_segments: bool = False
    """Whether annotated times chose these values, as `wtal tune` does. Detections then say so."""

    @model_validator(mode="before")
    @classmethod
    def _on_preset(cls, values: Any) -> Any:
        """The values, laid over those of their preset."""
        if not isinstance(values, Mapping) or not values.get("preset"):
            return values
        if not isinstance(values["preset"], str):
            raise ConfigError(f"localize.preset is a name or a path, got {values['preset']!r}")
        own = {key: value for key, value in values.items() if key != "preset"}
        return {**read_preset(values["preset"]), **own}

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        for name in ("threshold", "second"):
            start, stop, step = (getattr(self, f"{name}_{part}") for part in ("start", "stop", "step"))
            if abs(stop - start) > _MOST_THRESHOLDS * step:
                raise ConfigError(f"localize.{name}_step {step} makes more than {_MOST_THRESHOLDS} thresholds")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A key that came later is left out at its default: what was made before it keeps its identity."""
        values: dict[str, Any] = plain(self)
        return {key: value for key, value in values.items() if (key, value) != ("fusion_temperature", 0.0)}
