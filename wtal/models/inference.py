"""A trained head over one whole video at a time."""

import torch

from wtal.data.batch import SnippetBatch
from wtal.data.store import VideoFeatures
from wtal.models.head import Head
from wtal.models.inputs import Scaler
from wtal.models.localize import Activations


@torch.inference_mode()
def activate(head: Head, scaler: Scaler, video: VideoFeatures, device: str = "cpu") -> Activations:
    """Features of T > 0 snippets -> class activations (T, C or C + 1), attention (T,) and video scores (C,)."""
    batch = SnippetBatch.collate([scaler(video.streams)]).to(device)
    output = head(batch)
    attention = None if output.attention is None else output.attention[0].float().cpu().numpy()
    return Activations(output.cas[0].float().cpu().numpy(), attention, output.video_scores[0].float().cpu().numpy())
