"""Snippet features to class activations: `Head`, its output, and the loading of its parameters.

`wtal.models.heads` has the contract of a head's file, and creates heads by name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wtal.data.batch import SnippetBatch
from wtal.errors import WeightsError


@dataclass(frozen=True)
class HeadOutput:
    """Answer of a head to a batch.

    `cas`: (B, T, C + 1) class activation sequence, logits, background last; a head without a background class returns
    (B, T, C) and documents it. `attention`: (B, T) in [0, 1], None if the method has none. `video_scores`: (B, C)
    probabilities without background. `extras`: anything else that the loss or a reader of the paper needs, by name.
    `streams`: the output of each stream's own model, if a head has one per stream. `embedding`: (B, T, E), the features
    that are classified, at least in evaluation; None if each of the `streams` has its own.
    """

    cas: Tensor
    attention: Tensor | None
    video_scores: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)
    streams: "dict[str, HeadOutput]" = field(default_factory=dict)
    embedding: Tensor | None = None

    @property
    def embeddings(self) -> dict[str, Tensor]:
        """Stream -> its embedding; a head with one embedding for all its input has it under an empty name."""
        if self.embedding is not None:
            return {"": self.embedding}
        return {name: answer.embedding for name, answer in self.streams.items() if answer.embedding is not None}


@dataclass(frozen=True)
class RepresentativeSnippets:
    """The few vectors that summarize each video's snippets, for inspection.

    `features`: (B, K, E), in the space of the embedding. `present`: (B, K), False past a video's last one. `classes`:
    (B, K, C + 1) class probabilities, background last.
    """

    features: Tensor
    present: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Moment:
    """Progress of training: `step` of `steps` are done, in `epoch` (the first is 0)."""

    step: int
    steps: int
    epoch: int

    @property
    def share(self) -> float:
        """Completed share of the run, in [0, 1]."""
        return self.step / self.steps


class Head(nn.Module):
    """A localization head. The content of padded snippets never affects the others."""

    num_classes: int
    pairs: int = 0
    """Number of pairs of videos that share a class, at the front of each training batch: (0, 1), (2, 3), ..."""
    ties_videos: bool = False
    """True if the loss of a batch is not the mean over its videos, e.g. a loss on clusters of all their snippets."""
    stages: int = 1
    """Number of equal parts of training; the parameters at the end of each are saved."""

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """Map the features of B videos to class activations, attention and video scores."""
        raise NotImplementedError

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """Return the weighted loss terms by name, each a scalar; the trainer sums them and logs them by name."""
        raise NotImplementedError

    def pseudo_labels(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """Return the pseudo labels of the snippets, and their components, for inspection: by name, in reading order.

        Each is (B, T, C) or (B, T, C + 1), class probabilities, or (B, T) in [0, 1], action; the pseudo labels come
        last. The result is empty for methods without them, and for batches without the labels that they need.
        """
        return {}

    def representative_snippets(self, output: HeadOutput) -> RepresentativeSnippets | None:
        """Return the representative snippets used for an output; None if the method, or this output, has none."""
        return None

    def remembered_snippets(self) -> tuple[Tensor, Tensor] | None:
        """Return the remembered snippets (N, E) of other videos, and their classes (N,); None if there are none."""
        return None

    def begin_step(self, moment: Moment, videos: Callable[[], Iterator[SnippetBatch]]) -> None:
        """Prepare a training step: a hook for losses that change during training, and for memories.

        `videos()` yields every training video once, whole and scaled, one per batch, always in the same order. A head
        stores its state in buffers, so that a resumed run continues with it.
        """

    def end_stage(self, stage: int) -> None:
        """End a stage, counted from 0: called after its last step, before its parameters are saved."""

    def finish(self) -> None:
        """Finish training: called after the last stage's parameters are saved; the head is then the run's result."""

    def __call__(self, batch: SnippetBatch) -> HeadOutput:  # typed: nn.Module's own returns Any
        """Run `forward`."""
        output: HeadOutput = super().__call__(batch)
        return output


class EmbeddingHead(Head):
    """A head in two halves, so that another method can modify the features between them."""

    embedding: int
    """Width E of the features that `embed` returns."""
    attends: bool = True
    """True if outputs have an attention."""

    def embed(self, batch: SnippetBatch) -> Tensor:
        """Embed the features of B videos as (B, T, E), zero where padded."""
        raise NotImplementedError

    def respond(self, x: Tensor, batch: SnippetBatch) -> HeadOutput:
        """Map embedded features (B, T, E) of the batch's videos to class activations, attention and video scores."""
        raise NotImplementedError

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """Run both halves."""
        x = self.embed(batch)
        return replace(self.respond(x, batch), embedding=x)


def plain_keys(state_dict: Mapping[str, Any], what: str, ending: str = "") -> dict[str, Tensor]:
    """Map keys to tensors, without the `module.` of several GPUs and without `ending`; NumPy arrays become tensors.

    Raises:
        WeightsError: when two keys coincide without them, or a value is not a tensor, or is empty.
    """
    plain: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        name = str(key).removeprefix("module.").removesuffix(ending)
        if name in plain:
            twice = f"{name} is there twice, with and without {ending or 'module.'}"
            raise WeightsError(f"not a checkpoint of {what}: {twice}")
        if not isinstance(value, Tensor | np.ndarray):
            raise WeightsError(f"not a checkpoint of {what}: {name} is of type {type(value).__name__}, wanted a tensor")
        plain[name] = torch.as_tensor(value)
        if not plain[name].numel():
            raise WeightsError(f"not a checkpoint of {what}: {name} is empty")
    return plain


def matrix_shape(state: Mapping[str, Tensor], key: str, otherwise: tuple[int, int]) -> tuple[int, int]:
    """Return the shape of a matrix in a state dict; `otherwise`, if it is missing or not a matrix."""
    tensor = state.get(key)
    if tensor is None or tensor.ndim != 2 or not tensor.numel():
        return otherwise
    return tensor.shape[0], tensor.shape[1]


def load_renamed(head: nn.Module, state_dict: Mapping[str, Tensor], names: Mapping[str, str], what: str) -> None:
    """Load `state_dict` into `head`, whose parameter `names[key]` is called `key` in the file.

    Raises:
        WeightsError: for the first keys that are missing, left over, or mis-shaped.
    """
    plain, own = plain_keys(state_dict, what), head.state_dict()
    problems = [f"unknown {key}" for key in plain if key not in names]
    problems += [f"missing {key}" for key in names if key not in plain]
    problems += [
        f"{key} is {tuple(plain[key].shape)}, wanted {tuple(own[name].shape)}"
        for key, name in names.items()
        if key in plain and plain[key].shape != own[name].shape
    ]
    if problems:
        raise WeightsError(f"not a checkpoint of {what}: {'; '.join(problems[:5])}")
    head.load_state_dict({name: plain[key] for key, name in names.items()})
