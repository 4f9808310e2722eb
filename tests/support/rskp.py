"""Small heads of RSKP and batches for them."""

import numpy as np
import torch

from wtal.data.batch import SnippetBatch
from wtal.models import create_head
from wtal.models.head import Moment

NARROW = {"width": 16, "n_mu": 4}
DIMS = {"rgb": 6, "flow": 5}


def batch_of(lengths=(20, 13, 9), classes=3, seed=0, labels=None):
    generator = torch.Generator().manual_seed(seed)
    videos = [{name: torch.rand(n, d, generator=generator) for name, d in DIMS.items()} for n in lengths]
    target = torch.eye(classes)[torch.arange(len(lengths)) % classes] if labels is None else labels
    return SnippetBatch.collate(videos, target, ids=[f"video-{seed}-{i}" for i in range(len(lengths))])


def head_of(seed=0, classes=3, authors=False, **settings):
    torch.manual_seed(seed)
    return create_head("rskp", classes, DIMS, authors=authors, **{**NARROW, **settings})


def close(actual, expected):
    expected = np.asarray(expected)
    assert actual.shape == expected.shape
    assert np.abs(actual.detach().numpy() - expected).max() <= 1e-5 * np.abs(expected).max()


def fill(head, batches):
    head.begin_step(Moment(5, 10, 0), lambda: iter(batches))
    return head


def batch_of_one(batch, i):
    length = int(batch.mask[i].sum())
    streams = {name: x[i : i + 1, :length] for name, x in batch.streams.items()}
    return SnippetBatch(streams, batch.mask[i : i + 1, :length], batch.labels[i : i + 1], batch.ids[i : i + 1])
