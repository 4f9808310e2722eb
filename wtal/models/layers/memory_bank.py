"""Memories of representative snippets of other videos (RSKP, CVPR 2022, section 3.2; supplement, section 4).

The state of a memory is in buffers of fixed shape, so that a resumed run continues with it. `filled` is 1 once it has
been filled; until then nothing can be retrieved.
"""

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from wtal.data.batch import SnippetBatch
from wtal.errors import ConfigError
from wtal.models.layers.random_walk import Means


class Memory(nn.Module):
    """Base of both kinds: a flag, and the interface."""

    filled: Tensor

    def __init__(self) -> None:
        super().__init__()
        # A float, because all buffers are averaged over steps.
        self.register_buffer("filled", torch.zeros(()))

    @property
    def is_filled(self) -> bool:
        """True if there is something to retrieve."""
        return bool(self.filled > 0)

    def store(self, means: Means, scores: Tensor, labels: Tensor, batch: SnippetBatch) -> None:
        """Store the best of K means per video, given their class scores (B, K, C) and the videos' labels (B, C)."""
        raise NotImplementedError

    def retrieve(self, labels: Tensor, batch: SnippetBatch) -> Means:
        """Retrieve means for each video, possibly none, by its labels (B, C), given or predicted."""
        raise NotImplementedError

    def entries(self) -> tuple[Tensor, Tensor]:
        """All N stored means, (N, E), and the class of each, (N,)."""
        raise NotImplementedError


class ClassMemory(Memory):
    """`features` (C, S, E): the S best-scored means of each class; `scores` (C, S): their scores, 0 for an empty slot.

    Storing several videos at once is the same as storing them one after another: the best S of all remain. With
    `empty_slots` unused slots are retrieved too, as zeros.
    """

    features: Tensor
    scores: Tensor

    def __init__(self, num_classes: int, slots: int, width: int, empty_slots: bool) -> None:
        super().__init__()
        self.empty_slots = empty_slots
        self.register_buffer("features", torch.zeros(num_classes, slots, width))
        self.register_buffer("scores", torch.zeros(num_classes, slots))

    @torch.no_grad()
    def store(self, means: Means, scores: Tensor, labels: Tensor, batch: SnippetBatch) -> None:
        """Let each mean compete for the slots of its video's classes; old scores do not decay."""
        slots = self.scores.shape[1]
        eligible = (labels > 0)[:, None, :] & means.present[..., None]
        candidates = scores[..., : labels.shape[1]].float().masked_fill(~eligible, 0.0).flatten(0, 1).T
        best, positions = torch.cat([self.scores, candidates], dim=1).topk(slots, dim=1)
        old = self.features.gather(1, positions.clamp(max=slots - 1)[..., None].expand_as(self.features))
        new = means.features.float().flatten(0, 1)[(positions - slots).clamp(min=0)]
        self.features.copy_(torch.where((positions < slots)[..., None], old, new))
        self.scores.copy_(best)

    def retrieve(self, labels: Tensor, batch: SnippetBatch) -> Means:
        """Return the slots of all of a video's classes, one class after another."""
        count = max(1, int((labels > 0).sum(dim=1).max()))
        labelled, classes = (labels > 0).float().topk(count, dim=1)
        filled = (self.scores[classes] > 0) | self.empty_slots
        return Means(self.features[classes].flatten(1, 2), (filled & (labelled > 0)[..., None]).flatten(1))

    def entries(self) -> tuple[Tensor, Tensor]:
        """Return the filled slots, class after class."""
        classes, slots = (self.scores > 0).nonzero(as_tuple=True)
        return self.features[classes, slots], classes


class VideoMemory(Memory):
    """`features` (V, K, E): the means of every training video; the variant in the supplement's Table 2.

    A video retrieves the means of another video, chosen at random, that shares a class. They are moving averages of the
    current means. Videos are identified by the checksums of their ids, `keys`; `labels` (V, C) are their labels.
    """

    features: Tensor
    labels: Tensor
    keys: Tensor

    def __init__(self, num_classes: int, capacity: int, count: int, width: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("features", torch.zeros(capacity, count, width))
        self.register_buffer("labels", torch.zeros(capacity, num_classes))
        self.register_buffer("keys", torch.full((capacity,), -1, dtype=torch.int64))

    @torch.no_grad()
    def store(self, means: Means, scores: Tensor, labels: Tensor, batch: SnippetBatch) -> None:
        """Move known videos towards their new means; while the memory is being filled, the others get a row.

        Raises:
            ConfigError: when there are more videos than rows.
        """
        keys, momentum = self._keys(batch), self.momentum
        if not self.is_filled:
            momentum = 0.0
            self.admit(batch.ids)
        known, rows = self._rows(keys)
        updated = momentum * self.features[rows] + (1 - momentum) * means.features.float()
        self.features[rows[known]] = updated[known]
        self.labels[rows[known]] = labels[known].float()

    def retrieve(self, labels: Tensor, batch: SnippetBatch) -> Means:
        """Return another video's means, all or none; at random in training, otherwise the first that fits."""
        fitting = (labels.float() @ self.labels.T > 0).float()
        if batch.ids:
            known, rows = self._rows(self._keys(batch))
            fitting[known, rows[known]] = 0.0
        chances = 1.0 - torch.rand_like(fitting) if self.training else torch.ones_like(fitting)
        drawn = (fitting * chances).max(dim=1)
        chosen = self.features[drawn.indices]
        return Means(chosen, (drawn.values > 0)[:, None].expand(-1, chosen.shape[1]))

    def admit(self, names: Iterable[str]) -> None:
        """Allocate a row for each video without one.

        Raises:
            ConfigError: when there are more videos than rows.
        """
        known = set(self.keys.tolist())
        new = [key for key in dict.fromkeys(map(_key, names)) if key not in known]
        free = (self.keys < 0).nonzero()[:, 0]
        if len(new) > len(free):
            raise ConfigError(f"head.memory_videos = {len(self.keys)} is fewer than the training videos; raise it")
        self.keys[free[: len(new)]] = torch.tensor(new, dtype=torch.int64, device=self.keys.device)

    def entries(self) -> tuple[Tensor, Tensor]:
        """Return all rows, video after video; with several labels, the first counts."""
        rows = (self.labels.sum(dim=1) > 0).nonzero()[:, 0]
        classes = self.labels[rows].argmax(dim=1).repeat_interleave(self.features.shape[1])
        return self.features[rows].flatten(0, 1), classes

    def _rows(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) -> known (B,), bool, and rows (B,)."""
        same = keys[:, None] == self.keys[None, :]
        return same.any(dim=1), same.int().argmax(dim=1)

    def _keys(self, batch: SnippetBatch) -> Tensor:
        return torch.tensor([_key(name) for name in batch.ids], device=self.keys.device)


def _key(name: str) -> int:
    return zlib.crc32(name.encode())
