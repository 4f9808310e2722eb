"""Settings of a training run; separate from the trainer, so that help texts need no torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from wtal.config import Config

Positive = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class TrainConfig(Config):
    """Defaults are BaS-Net's (AAAI 2020, section 4.2), which are common to most of the family."""

    steps: Positive = 1500
    """Optimizer steps."""
    epochs: int = Field(0, ge=0)
    """Passes over the training videos, instead of `steps`; 0: use `steps`."""
    batch_size: int = Field(16, ge=1, le=1 << 16)
    """Videos per step."""
    accumulate: Positive = 1
    """Number of parts into which a step's videos are split, to save memory; gradients are averaged over all videos."""
    learning_rate: float = Field(1e-4, gt=0)
    """Learning rate of Adam."""
    weight_decay: float = Field(5e-4, ge=0)
    """L2 regularization within Adam; decoupled with `optimizer = "adamw"`."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Adam's decay of the running means of the gradient and of its square."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Optimizer: `adam` adds weight decay to the gradient, `adamw` decouples it."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Schedule of the learning rate over `steps`."""
    sampling: Literal["perturb", "full"] = "perturb"
    """`perturb`: one snippet at random from each of `sample_length` equal strata; `full`: whole videos, padded."""
    sample_length: Positive = 750
    """Number of snippets sampled from a training video under `perturb`."""
    scaling: Literal["none", "standard", "soft", "l2"] = "none"
    """Scaling of features: none; each dimension to mean 0 and deviation 1 over the training videos; the same, but
    dimensions that hardly vary stay small; or each vector to unit length."""
    noise: float = Field(0.0, ge=0)
    """Standard deviation of noise added to scaled features in training."""
    average_from: float = Field(1.0, ge=0, le=1)
    """Average the parameters over the steps after this share of the run; 1: use the last step's."""
    average_decay: float = Field(1.0, gt=0, le=1)
    """Decay of that average: its n-th step has the weight max(1/n, 1 - decay). 1: the plain mean of all steps; 0.99,
    say: an exponential moving average (EMA) over about the last hundred, and their plain mean until there are as
    many."""
    negatives: bool = True
    """Also train on videos that are known to lack classes; ours. The papers train on labelled videos only."""
    negative_share: float = Field(0.5, gt=0)
    """Known negatives per step, in addition to the labelled videos, as a share of `batch_size`; ours."""
    negative_weight: float = Field(1.0, ge=0)
    """Weight of the loss term that suppresses absent classes in negatives; ours."""
    clip_norm: float = Field(0.0, ge=0)
    """Maximum norm of a step's gradient; 0: no limit."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the forward pass (autocast)."""
    checkpoint_every: Positive = 100
    """Steps between checkpoints."""
    log_every: Positive = 10
    """Steps between lines of `log.jsonl`."""
    select_every: Positive = 100
    """Steps between scores on the selection subset, if one is named."""

    @model_serializer(mode="wrap")
    def _as_before(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit a key added later at its default, so that earlier runs keep their identity."""
        values: dict[str, Any] = plain(self)
        return {key: value for key, value in values.items() if (key, value) != ("average_decay", 1.0)}
