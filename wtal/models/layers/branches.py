"""Branches of one network: their outputs by name in `extras`, their fusion, and the pseudo labels that they exchange.

A branch's output is flattened into extras: `NAME_cas`, `NAME_att`, `NAME_video_scores`, and `NAME_...` for its extras.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wtal.models.head import HeadOutput


def named(name: str, branch: HeadOutput) -> dict[str, Tensor]:
    """Flatten a branch's output into extras of the whole network."""
    tensors = {"cas": branch.cas, "att": branch.attention, "video_scores": branch.video_scores, **branch.extras}
    return {f"{name}_{key}": tensor for key, tensor in tensors.items() if tensor is not None}


def unnamed(name: str, output: HeadOutput) -> HeadOutput:
    """Rebuild a branch's output from the extras of the whole network."""
    tensors = {key.removeprefix(f"{name}_"): x for key, x in output.extras.items() if key.startswith(f"{name}_")}
    return HeadOutput(tensors.pop("cas"), tensors.pop("att", None), tensors.pop("video_scores"), tensors)


def fused(weighted: Sequence[tuple[float, HeadOutput]], probabilities: bool) -> tuple[Tensor, Tensor]:
    """Fuse weighted outputs into `cas` (B, T, C + 1) and `video_scores` (B, C).

    With `probabilities` the softmax of `cas` is the mean of the branches' softmaxes, else `cas` is the mean of logits.
    """
    counted = [(weight, branch) for weight, branch in weighted if weight > 0]
    scores = torch.stack([weight * branch.video_scores for weight, branch in counted]).sum(dim=0)
    if not probabilities:
        return torch.stack([weight * branch.cas for weight, branch in counted]).sum(dim=0), scores
    logs = [branch.cas.float().log_softmax(dim=-1) + math.log(weight) for weight, branch in counted]
    return torch.stack(logs).logsumexp(dim=0), scores


def teacher(extras: Mapping[str, Tensor], inter_share: float, temperature: float) -> Tensor:
    """Class probabilities (B, T, C + 1) of the branches other than the main one, branch r with share `inter_share`."""
    cas = extras["m_cas"]
    if "r_cas" in extras:
        cas = torch.lerp(cas, extras["r_cas"], inter_share)
    return (cas.detach().float() / temperature).softmax(dim=-1)


def cross_entropy_with(taught: Tensor, cas: Tensor, temperature: float) -> Tensor:
    """Probabilities and logits, (B, T, C + 1) each -> cross entropy (B, T)."""
    log_probabilities = (cas.float() / temperature).log_softmax(dim=-1)
    return -(taught * log_probabilities).sum(dim=-1)
