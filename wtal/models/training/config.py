"""Settings of a training run; apart from the trainer, so that help texts need no torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from wtal.config import Config

Positive = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(Config):
    """Defaults are BaS-Net's (AAAI 2020, section 4.2), which most of the family shares."""

    steps: Positive = 1500
    """Optimizer steps."""
    epochs: int = Field(0, ge=0)
    """Passes over the training videos, in place of `steps`; 0 takes `steps`."""
    batch_size: int = Field(16, ge=1, le=1 << 16)
    """Videos in a step."""
    accumulate: Positive = 1
    """Parts that a step's videos are split into, to save memory; gradients are averaged over all videos."""
    learning_rate: float = Field(1e-4, gt=0)
    """Of Adam."""
    weight_decay: float = Field(5e-4, ge=0)
    """L2, as Adam applies it; decoupled with `optimizer = "adamw"`."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Of Adam: decay of the running means of the gradient and of its square."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Where weight decay is part of the gradient, or apart from it."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rate over `steps`."""
    sampling: Literal["perturb", "full"] = "perturb"
    """`perturb`: one snippet at random from each of `sample_length` equal strata; `full`: whole videos, padded."""
    sample_length: Positive = 750
    """Snippets of a training video under `perturb`."""
    scaling: Literal["none", "standard", "soft", "l2"] = "none"
    """Of features: as they are; each dimension to mean 0 and deviation 1 over the training videos; the same, but those
    that hardly move stay small; or each vector to unit length."""
    noise: float = Field(0.0, ge=0)
    """Standard deviation of noise added to scaled features in training."""
    average_from: float = Field(1.0, ge=0, le=1)
    """Parameters are averaged over the steps after this share of the run; 1 keeps the last step's."""
    average_decay: float = Field(1.0, gt=0, le=1)
    """Of that average: the n-th step of it weighs max(1/n, 1 - decay). 1 is the plain mean of all steps; 0.99, say, an
    exponential moving average (EMA) over the last hundred or so, which is their plain mean until there are so many."""
    negatives: bool = True
    """Whether videos that are known to lack classes train, too; ours. The papers train on labelled videos alone."""
    negative_share: float = Field(0.5, gt=0)
    """Known negatives beside the labelled videos of a step, as a share of `batch_size`; ours."""
    negative_weight: float = Field(1.0, ge=0)
    """Of the term that keeps absent classes out of negatives; ours."""
    clip_norm: float = Field(0.0, ge=0)
    """Largest norm of a step's gradient; 0 leaves it alone."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast of the forward pass."""
    checkpoint_every: Positive = 100
    """Steps between checkpoints."""
    log_every: Positive = 10
    """Steps between lines of `log.jsonl`."""
    select_every: Positive = 100
    """Steps between scores on the subset that selects, where one is named."""

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A key that came later is left out at its default: runs that were made before it keep their identity."""
        values: dict[str, Any] = plain(self)
        return {key: value for key, value in values.items() if (key, value) != ("average_decay", 1.0)}
