"""Cost of a head: parameters and operations, by hand."""

import torch
from torch import nn

from tests.support.planted import CLASSES, STREAMS, WIDTH
from wtal.models import create_head
from wtal.models.cost import cost


def test_the_cost_of_a_head_by_hand():
    width, classes, snippets = 16, len(CLASSES), 100
    head = create_head("basnet", classes, dict.fromkeys(STREAMS, WIDTH), width=width, filter_width=8)
    inside = 2 * WIDTH
    weights = inside * width * 3 + width * width * 3 + width * (classes + 1)
    filters = inside * 8 + 8
    made = cost(head, dict.fromkeys(STREAMS, WIDTH), snippets)
    assert made.parameters == weights + 2 * width + filters + 8 + 1
    # The taps that reach beyond the ends are not computed: one snippet less for each of the two outer ones.
    tapped = inside * width * (3 * snippets - 2) + width * width * (3 * snippets - 2)
    assert made.macs == 2 * (tapped + width * (classes + 1) * snippets) + filters * snippets


def test_recurrent_layers_are_counted():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(WIDTH, 5, batch_first=True)

        def forward(self, batch):
            return self.lstm(batch.streams["rgb"])

    made = cost(Recurrent(), {"rgb": WIDTH}, 10)
    assert made.macs == 10 * 4 * 5 * (WIDTH + 5)
    assert made.parameters == 4 * 5 * (WIDTH + 5 + 2)
    assert torch.is_grad_enabled()
