"""Memories of representative snippets of other videos (RSKP, CVPR 2022, section 3.2; supplement, section 4).

All that a memory knows lies in buffers of fixed shape, so that a resumed run goes on with it. `filled` says whether it
has been filled once; until then it gives nothing.
"""

import zlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from wtal.data.batch import SnippetBatch
from wtal.errors import ConfigError
from wtal.models.layers.random_walk import Means


class Memory(nn.Module):
    """What both kinds share: a flag, and how they are asked."""

    filled: Tensor

    def __init__(self) -> None:
        super().__init__()
        # A float, as averages over steps are taken of all buffers.
        self.register_buffer("filled", torch.zeros(()))

    @property
    def is_filled(self) -> bool:
        """Whether there is something to retrieve."""
        return bool(self.filled > 0)

    def store(self, means: Means, scores: Tensor, labels: Tensor, batch: SnippetBatch) -> None:
        """K means a video, their class scores (B, K, C), the videos' labels (B, C): keep what is worth it."""
        raise NotImplementedError

    def retrieve(self, labels: Tensor, batch: SnippetBatch) -> Means:
        """Labels (B, C), known or foretold -> means for each video, of which none may be present."""
        raise NotImplementedError

    def entries(self) -> tuple[Tensor, Tensor]:
        """All N means that it holds, (N, E), and the class of each, (N,)."""
        raise NotImplementedError


class ClassMemory(Memory):
    """`features` (C, S, E): the S best-scored means of each class; `scores` (C, S) theirs, 0 where a slot is empty.

    Several videos at once leave behind what they leave behind one after the other: the best S of all. With
    `empty_slots` those not yet used are retrieved too, as zeros.
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
        """Each mean competes for the slots of its video's classes; scores of old ones do not age."""
        slots = self.scores.shape[1]
        eligible = (labels > 0)[:, None, :] & means.present[..., None]
        offered = scores[..., : labels.shape[1]].float().masked_fill(~eligible, 0.0).flatten(0, 1).T
        best, places = torch.cat([self.scores, offered], dim=1).topk(slots, dim=1)
        old = self.features.gather(1, places.clamp(max=slots - 1)[..., None].expand_as(self.features))
        new = means.features.float().flatten(0, 1)[(places - slots).clamp(min=0)]
        self.features.copy_(torch.where((places < slots)[..., None], old, new))
        self.scores.copy_(best)

    def retrieve(self, labels: Tensor, batch: SnippetBatch) -> Means:
        """The slots of all of a video's classes, one class after the other."""
        most = max(1, int((labels > 0).sum(dim=1).max()))
        taken, classes = (labels > 0).float().topk(most, dim=1)
        held = (self.scores[classes] > 0) | self.empty_slots
        return Means(self.features[classes].flatten(1, 2), (held & (taken > 0)[..., None]).flatten(1))

    def entries(self) -> tuple[Tensor, Tensor]:
        """Class after class."""
        classes, slots = (self.scores > 0).nonzero(as_tuple=True)
        return self.features[classes, slots], classes


class VideoMemory(Memory):
    """`features` (V, K, E): the means of every training video; the variant of the supplement's Table 2.

    A video retrieves those of another one, chosen at random, that shares a class. They follow the current means as a
    moving average. Videos are known by the checksums of their ids, `keys`; `labels` (V, C) are theirs.
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
        """Known videos move towards their new means; a row is given to the others while the memory is being filled.

        Raises:
            ConfigError: when there are more videos than rows.
        """
        keys, momentum = self._keys(batch), self.momentum
        if not self.is_filled:
            momentum = 0.0
            self.admit(batch.ids)
        known, rows = self._rows(keys)
        moved = momentum * self.features[rows] + (1 - momentum) * means.features.float()
        self.features[rows[known]] = moved[known]
        self.labels[rows[known]] = labels[known].float()

    def retrieve(self, labels: Tensor, batch: SnippetBatch) -> Means:
        """Another video's means, all or none; at random in training, otherwise the first that fits."""
        fitting = (labels.float() @ self.labels.T > 0).float()
        if batch.ids:
            known, rows = self._rows(self._keys(batch))
            fitting[known, rows[known]] = 0.0
        chances = 1.0 - torch.rand_like(fitting) if self.training else torch.ones_like(fitting)
        drawn = (fitting * chances).max(dim=1)
        chosen = self.features[drawn.indices]
        return Means(chosen, (drawn.values > 0)[:, None].expand(-1, chosen.shape[1]))

    def admit(self, names: Iterable[str]) -> None:
        """Give each video that has no row yet one.

        Raises:
            ConfigError: when there are more videos than rows.
        """
        known = set(self.keys.tolist())
        wanted = [key for key in dict.fromkeys(map(_key, names)) if key not in known]
        free = (self.keys < 0).nonzero()[:, 0]
        if len(wanted) > len(free):
            raise ConfigError(f"head.memory_videos = {len(self.keys)} is fewer than the training videos; raise it")
        self.keys[free[: len(wanted)]] = torch.tensor(wanted, dtype=torch.int64, device=self.keys.device)

    def entries(self) -> tuple[Tensor, Tensor]:
        """Video after video; of several labels the first counts."""
        rows = (self.labels.sum(dim=1) > 0).nonzero()[:, 0]
        classes = self.labels[rows].argmax(dim=1).repeat_interleave(self.features.shape[1])
        return self.features[rows].flatten(0, 1), classes

    def _rows(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) -> whether each is known, (B,), and its row, (B,)."""
        same = keys[:, None] == self.keys[None, :]
        return same.any(dim=1), same.int().argmax(dim=1)

    def _keys(self, batch: SnippetBatch) -> Tensor:
        return torch.tensor([_key(name) for name in batch.ids], device=self.keys.device)


def _key(name: str) -> int:
    return zlib.crc32(name.encode())
