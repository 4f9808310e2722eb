"""Localization settings, from activations to detections. A preset supplies values that explicit settings override."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from wtal.config import Config
from wtal.errors import ConfigError
from wtal.models.localization.presets import read_preset
from wtal.refusals import written

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
"""Largest number of thresholds: more change nothing, and a tiny step would fill the memory."""


class LocalizeConfig(Config):
    """Defaults follow BaS-Net (AAAI 2020) unless noted."""

    preset: str = Field("", exclude=True)
    """Values that replace the defaults: a name from `wtal list presets`, or the path of a TOML file with a `[localize]`
    section, as written by `wtal tune`. The values are stored, not the name."""
    streams: str = FUSED
    """For heads with a model per stream: `fused` uses their common output, the name of a stream that stream's output
    alone, `union` pools the detections of each stream (STPN, CVPR 2018; FAC-Net's code)."""
    stream_weights: dict[str, float] = Field(default_factory=dict)
    """Factors of scores under `union`, 1 by default; FAC-Net's code: 0.1 for rgb, so that flow's detections come
    first."""
    stream_mix: float = Field(1.0, ge=0, le=1)
    """Under `union`: weight of a stream's own class activations in its scores; the others' have the rest. STPN: 0.5."""
    union_tiou: float = Field(0.9, ge=0, le=1)
    """Overlap threshold of the hard suppression of the pool under `union`. FAC-Net's code: 0.9."""
    signal: Literal["cas", "attention", "product"] = "cas"
    """Signal to threshold: a class's activation, the attention, or their product."""
    score_signal: Literal["signal", "cas", "attention", "product"] = "signal"
    """Signal on which proposals are scored; `signal`: the thresholded one."""
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    """Activation of the class logits: over all classes (softmax) or each separately (sigmoid)."""
    range: Literal["none", "video", "class"] = "class"
    """Rescale signals to [0, 1] by the extremes of each class in a video, or of the whole video."""
    score_range: Literal["same", "none", "video", "class"] = "same"
    """Rescaling of the signal of scores; `same` follows `range`. W-TALC scores raw activations: none."""
    smooth: float = Field(0.0, ge=0)
    """Standard deviation, in snippets, of a Gaussian over the activations; ours, 0: no smoothing."""
    upsample: int = Field(8, ge=1)
    """Linear interpolation to this many positions per snippet. BaS-Net: 24; beyond 8 results no longer change."""
    upsample_factors: bool = False
    """Upsample the two factors of `product` before multiplying them, not their product (TSCN, HACS 2021)."""
    threshold_start: float = 0.0
    """Lowest threshold of the signal."""
    threshold_stop: float = 0.25
    """End of the thresholds, exclusive."""
    threshold_step: float = Field(0.025, gt=0)
    """Step between thresholds."""
    thresholds: tuple[float, ...] = ()
    """Explicit thresholds, if they are not evenly spaced; replace start, stop and step."""
    second_signal: Literal["none", "cas", "attention", "product"] = "none"
    """A second signal whose runs are also proposals, scored like the others (UM, AAAI 2021: the attention)."""
    second_start: float = 0.0
    """Lowest threshold of the second signal."""
    second_stop: float = 1.0
    """End of its thresholds, exclusive."""
    second_step: float = Field(0.025, gt=0)
    """Step between them."""
    grouping: Literal["runs", "watershed"] = "runs"
    """Proposals from runs above a threshold: the runs themselves, or also runs joined over gaps (SSN, ICCV 2017;
    LGBM-Net)."""
    tolerances: tuple[float, ...] = Field((0.0, 0.1, 0.2, 0.3), min_length=1)
    """For `watershed`: shares of a proposal that may be below the threshold; 0: the runs themselves."""
    min_length: int = Field(1, ge=1)
    """Minimum length of a run, in upsampled positions."""
    class_threshold: float = 0.25
    """Classes with a lower video score are skipped."""
    max_classes: int = Field(0, ge=0)
    """At most this many classes per video, the best; 0: no limit."""
    class_from: Literal["video_scores", "cas"] = "video_scores"
    """Score of a class: the head's, or the mean of its highest logits over time (W-TALC, ECCV 2018)."""
    class_top_ratio: int = Field(8, ge=1)
    """Under `cas`: the max(1, T // ratio) highest of T snippets count."""
    fallback: bool = True
    """Keep the best class if none reaches the threshold. BaS-Net's code drops such a video."""
    inner: Literal["mean", "max", "total"] = "mean"
    """Statistic of the signal inside a proposal. W-TALC: max; SSN: total, i.e. the sum."""
    inflation: float = Field(0.25, ge=0)
    """The outer region extends by this share of the proposal's length beyond each end."""
    outer_weight: float = 1.0
    """Weight of the outer mean in inner - outer."""
    video_weight: float = 0.2
    """gamma, weight of the class's video score in the proposal's score."""
    video_power: float = Field(0.0, ge=0, le=10)
    """The total score is multiplied by the video score to this power; ours, 0: no effect. A negative video
    score counts as 0."""
    suppression: Literal["hard", "soft", "linear", "fusion", "none"] = "hard"
    """Treatment of overlapping proposals of one class: the lower-scored are removed, or their scores are lowered
    (`soft` by a Gaussian of the overlap, `linear` by the overlap if it exceeds `nms_tiou`), or (`fusion`) they are
    removed and move the better one's borders to the mean of all, weighted by their scores (Gidaris and Komodakis, ICCV
    2015). `none` keeps all, up to `max_detections`."""
    overlap: Literal["tiou", "lower"] = "tiou"
    """Overlap measure: intersection over union, or over the length of the lower-scored proposal (code of FAC-Net and
    RSKP)."""
    nms_tiou: float = Field(0.7, ge=0, le=1)
    """Suppression other than `soft` acts on proposals that overlap a better one by more than this."""
    soft_sigma: float = Field(0.3, gt=0)
    """Soft suppression multiplies scores by exp(-tiou^2 / sigma) (Bodla et al., ICCV 2017)."""
    fusion_temperature: float = Field(0.0, ge=0)
    """Under `fusion`: borders and scores are means weighted by exp(score / temperature) (GauFuse, CVPR 2023: 0.2, with
    `overlap = "lower"` above 0.25); 0 weights borders by scores."""
    max_detections: int = Field(200, ge=1)
    """Maximum number of detections per video, the best."""
    quirks: tuple[Quirk, ...] = ()
    """Peculiarities of the authors' code, for `authors:` presets. `relu-range`: extremes below 0 count as 0.
    `first-position`: upsampled positions start at a snippet's middle and are extrapolated linearly beyond the last.
    `uneven-rings`: a fractional length of the ring is rounded up before a proposal and down after it. `extra-snippet`:
    proposals are scored over, and end after, one more snippet, even beyond the end. `zero-below`: values not above the
    proposal's threshold are scored as 0. `score-one`: selected classes have a score of 1. `lost-first`: a video with
    only the first class is dropped, and so is a run of only the first position. `plus-second`, `plus-snippet`:
    suppression adds a second, or a snippet, to lengths and intersections."""
    tuned_with_segments: bool = False
    """True if annotated times chose these values, as in `wtal tune`; recorded in the detections."""

    @model_validator(mode="before")
    @classmethod
    def _on_preset(cls, values: Any) -> Any:
        """Merge the values over those of their preset."""
        if not isinstance(values, Mapping) or not values.get("preset"):
            return values
        if not isinstance(values["preset"], str):
            raise ConfigError(f"localize.preset: wanted a name or a path, got {written(values['preset'])}")
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
        """Omit a key added later at its default, so that earlier results keep their identity."""
        values: dict[str, Any] = plain(self)
        return {key: value for key, value in values.items() if (key, value) != ("fusion_temperature", 0.0)}
