"""Snippet features to class activations: `Head`, and how one is made by name.

`wtal.models.heads.HeadLeaf` says what a head's file holds.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wtal.data.batch import SnippetBatch
from wtal.errors import UsageError, WeightsError
from wtal.models.heads import HEADS


@dataclass(frozen=True)
class HeadOutput:
    """Answer of a head to a batch.

    `cas`: (B, T, C + 1) class activation sequence, logits, background last; a head without a background class gives
    (B, T, C) and says so. `attention`: (B, T) in [0, 1], None where the method has none. `video_scores`: (B, C)
    probabilities without background. `extras`: whatever else the loss or a reader of the paper wants, by name.
    `streams`: what each stream's own model says, where a head has one per stream. `embedding`: (B, T, E), the features
    that are classified, in evaluation at least; None where each of the `streams` has its own.
    """

    cas: Tensor
    attention: Tensor | None
    video_scores: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)
    streams: "dict[str, HeadOutput]" = field(default_factory=dict)
    embedding: Tensor | None = None

    @property
    def embeddings(self) -> dict[str, Tensor]:
        """Stream -> its embedding; or the one that a head has for all its input, under an empty name."""
        if self.embedding is not None:
            return {"": self.embedding}
        return {name: answer.embedding for name, answer in self.streams.items() if answer.embedding is not None}


@dataclass(frozen=True)
class RepresentativeSnippets:
    """The few vectors that sum up each video's snippets, for a reader.

    `features`: (B, K, E), in the space of the embedding. `present`: (B, K), False where a video has fewer. `classes`:
    (B, K, C + 1) class probabilities, background last.
    """

    features: Tensor
    present: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Moment:
    """Where training stands: `step` of `steps` are done, in `epoch` (the first is 0)."""

    step: int
    steps: int
    epoch: int

    @property
    def share(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        return self.step / self.steps


class Head(nn.Module):
    """A localization head. What stands in padded snippets never changes the others."""

    num_classes: int
    pairs: int = 0
    """So many pairs of videos that share a class stand first in each training batch: (0, 1), (2, 3), ..."""
    ties_videos: bool = False
    """Whether the loss of a batch is not the mean over its videos, as one of clusters of all their snippets is not."""
    stages: int = 1
    """Equal parts that training falls into; the parameters at the end of each are kept."""

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """Features of B videos -> class activations, attention and video scores."""
        raise NotImplementedError

    def loss(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """Weighted terms by name, each a scalar; the trainer sums them and logs the same names."""
        raise NotImplementedError

    def pseudo_labels(self, output: HeadOutput, batch: SnippetBatch) -> dict[str, Tensor]:
        """Return what snippets would be taught, and what that is made of, for a reader: by name, in the order to read.

        Each is (B, T, C) or (B, T, C + 1), class probabilities, or (B, T) in [0, 1], action; the pseudo labels come
        last. Methods without them, and batches without the labels that they want, have none.
        """
        return {}

    def representative_snippets(self, output: HeadOutput) -> RepresentativeSnippets | None:
        """Return the representative snippets behind an answer; None where the method, or this answer, has none."""
        return None

    def remembered_snippets(self) -> tuple[Tensor, Tensor] | None:
        """Return what is remembered of other videos, (N, E) snippets, and their classes, (N,); None without any."""
        return None

    def begin_step(self, moment: Moment, videos: Callable[[], Iterator[SnippetBatch]]) -> None:
        """Called before each training step, for losses that change on the way and for memories.

        `videos()` gives every training video once, whole and scaled, one per batch, always in one order. What a head
        keeps from here on lies in its buffers, so that a resumed run goes on with it.
        """

    def end_stage(self, stage: int) -> None:
        """Called after the last step of each stage, counted from 0, before its parameters are kept."""

    def finish(self) -> None:
        """Called after the last stage's parameters were kept: what is left in the head now is the run's result."""

    def __call__(self, batch: SnippetBatch) -> HeadOutput:  # typed: nn.Module's own returns Any
        """Run `forward`."""
        output: HeadOutput = super().__call__(batch)
        return output


class EmbeddingHead(Head):
    """A head in two halves, so that another method can work on the features between them."""

    embedding: int
    """Width E of what `embed` gives."""
    attends: bool = True
    """Whether answers have an attention."""

    def embed(self, batch: SnippetBatch) -> Tensor:
        """Features of B videos -> (B, T, E), zero where padded."""
        raise NotImplementedError

    def respond(self, x: Tensor, batch: SnippetBatch) -> HeadOutput:
        """Embedded features (B, T, E) of the batch's videos -> class activations, attention and video scores."""
        raise NotImplementedError

    def forward(self, batch: SnippetBatch) -> HeadOutput:
        """Both halves."""
        x = self.embed(batch)
        return replace(self.respond(x, batch), embedding=x)


def create_head(
    name: str, num_classes: int, feature_dims: Mapping[str, int], *, authors: bool = False, **config: Any
) -> Head:
    """The head `name` for C = `num_classes` and streams of the given widths, freshly initialised.

    With `authors` it is what the authors' code ran, quirks included; the default is what is right. The leaf's
    docstring lists the differences. `config` holds the head's own settings.

    Raises:
        UsageError: when there is no such head, no class, or no stream of features.
        ConfigError: when a setting is unknown or does not fit.
    """
    module = HEADS.load(name)
    _some_classes(num_classes)
    if not feature_dims or min(feature_dims.values()) < 1:
        raise UsageError(f"a head needs at least one stream of features, got {dict(feature_dims)}")
    return module.create(num_classes, dict(feature_dims), module.Config.parse(config, f"head {name}"), authors)


def load_author_checkpoint(name: str, state_dict: Mapping[str, Any], num_classes: int, **settings: Any) -> Head:
    """A head from the authors' own state dict, in eval mode; implies `authors=True`.

    A head with a model per stream takes stream -> state dict too. `settings` are what tensors cannot tell, where a
    leaf's `from_authors` asks for it.

    Raises:
        UsageError: when there is no such head, no class, or it takes no such setting.
        WeightsError: when a key is missing, left over, or of another shape; the message names them.
    """
    load: Callable[..., Head] = HEADS.load(name).from_authors
    _some_classes(num_classes)
    unknown = [key for key in settings if key not in author_settings(name)]
    if unknown:
        raise UsageError(f"an authors' checkpoint of {name} takes no setting {unknown[0]!r}")
    return load(state_dict, num_classes, **settings).eval()


def _some_classes(count: int) -> None:
    if count < 1:
        raise UsageError(f"a head needs at least one class, got {count}")


def author_settings(name: str) -> set[str]:
    """Names of the settings that a leaf's `from_authors` takes beside the tensors, or guesses."""
    return {*inspect.signature(HEADS.load(name).from_authors).parameters} - {"state_dict", "num_classes"}


def plain_keys(state_dict: Mapping[str, Any], what: str, ending: str = "") -> dict[str, Tensor]:
    """Key -> tensor, without the `module.` of several GPUs and without `ending`; arrays of numpy become tensors.

    Raises:
        WeightsError: when two keys are one without them, or a value is no tensor, or an empty one.
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
    """Return the shape of a matrix in a state dict; `otherwise`, where it is missing or no matrix."""
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
