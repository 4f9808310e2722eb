"""A trained head over one whole video at a time."""

import torch

from wtal.data.batch import SnippetBatch
from wtal.data.store import VideoFeatures
from wtal.models.head import Head, HeadOutput
from wtal.models.inputs import Scaler
from wtal.models.signals import Activations


@torch.inference_mode()
def activate(head: Head, scaler: Scaler, video: VideoFeatures, device: str = "cpu") -> Activations:
    """Features of T > 0 snippets -> class activations (T, C or C + 1), attention (T,) and video scores (C,)."""
    batch = SnippetBatch.collate([scaler(video.streams)]).to(device)
    return _activations(head(batch))


def _activations(output: HeadOutput) -> Activations:
    """Of the one video of a batch, and of each stream where a head has a model a stream."""
    return Activations(
        cas=output.cas[0].float().cpu().numpy(),
        attention=None if output.attention is None else output.attention[0].float().cpu().numpy(),
        video_scores=output.video_scores[0].float().cpu().numpy(),
        streams={name: _activations(one) for name, one in output.streams.items()},
    )
