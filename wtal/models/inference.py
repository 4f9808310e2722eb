"""Run a trained head over one whole video at a time."""

import torch
from torch import Tensor

from wtal.data.batch import SnippetBatch
from wtal.data.store import VideoFeatures
from wtal.models.head import Head, HeadOutput
from wtal.models.localization.signals import Activations
from wtal.models.training.inputs import Scaler


def activate(head: Head, scaler: Scaler, video: VideoFeatures, device: str = "cpu") -> Activations:
    """Map features of T > 0 snippets to class activations (T, C or C + 1), attention (T,) and video scores (C,)."""
    return _activations(ask(head, scaler, video, device=device)[0])


@torch.inference_mode()
def ask(
    head: Head, scaler: Scaler, video: VideoFeatures, labels: Tensor | None = None, device: str = "cpu"
) -> tuple[HeadOutput, SnippetBatch]:
    """Run a head on features of T > 0 snippets, optionally with labels (C,); return its output and the batch."""
    known, ids = (None, ()) if labels is None else (labels[None], (video.id,))
    batch = SnippetBatch.collate([scaler(video.streams)], known, ids).to(device)
    return head(batch), batch


def _activations(output: HeadOutput) -> Activations:
    """Convert the output for the single video of a batch, with that of each stream if a head has a model per stream."""
    return Activations(
        cas=output.cas[0].float().cpu().numpy(),
        attention=None if output.attention is None else output.attention[0].float().cpu().numpy(),
        video_scores=output.video_scores[0].float().cpu().numpy(),
        streams={name: _activations(answer) for name, answer in output.streams.items()},
    )
