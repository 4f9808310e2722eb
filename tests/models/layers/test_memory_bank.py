"""Contents of a memory of videos."""

import torch

from wtal.models.layers.memory_bank import ClassMemory, VideoMemory
from wtal.models.layers.random_walk import Means


def test_what_a_memory_keeps():
    means = Means(torch.eye(2)[None], torch.ones(1, 2, dtype=torch.bool))
    memory = ClassMemory(3, slots=4, width=2, empty_slots=False)
    memory.store(means, torch.tensor([[[0, 0.5, 0, 0], [0, 0.9, 0, 0]]]), torch.tensor([[0.0, 1, 0]]), None)
    features, classes = memory.entries()
    assert features.tolist() == [[0, 1], [1, 0]]
    assert classes.tolist() == [1, 1]
    of_videos = VideoMemory(3, capacity=3, count=2, width=2, momentum=0.9)
    assert [len(one) for one in of_videos.entries()] == [0, 0]
