"""Outputs of heads over several videos, joined from those over each."""

import torch

from wtal.models.head import HeadOutput


def stacked(outputs, lengths):
    """Join outputs of single videos of `lengths` snippets into the padded output of their batch."""

    def join(*values):
        if values[0] is None:
            return None
        over_time = values[0].ndim > 1 and [len(value[0]) for value in values] == lengths
        return torch.nn.utils.rnn.pad_sequence([v[0] for v in values], True) if over_time else torch.cat(values)

    return HeadOutput(
        join(*(each.cas for each in outputs)),
        join(*(each.attention for each in outputs)),
        join(*(each.video_scores for each in outputs)),
        {key: join(*(each.extras[key] for each in outputs)) for key in outputs[0].extras},
        {key: stacked([each.streams[key] for each in outputs], lengths) for key in outputs[0].streams},
    )
