"""Video-level loss term for students, which anchors the classes when segments are noisy."""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy, dropout

from wtal.models.layers.losses import cross_entropy, normalized
from wtal.models.layers.temporal import masked_topk_mean
from wtal.models.student import StudentOutput


def video_term(
    output: StudentOutput, labels: Tensor, ratio: int = 8, authors: bool = False, drop: float = 0.0
) -> Tensor:
    """Output for B videos, labels (B, C) -> scalar: cross entropy of the means of the largest logits at stride 1.

    The best k = max(1, T // `ratio`) real positions per video and class count, and labels are divided by their number;
    a share `drop` of the logits is dropped first.

    Source: FuSTAL (arXiv 2407.08971). Its code (`authors`, ratio 5, drop 0.7 in training) derives one k from the
    positions of the whole batch, which is nearly all of a video's; includes padding; and uses the binary cross entropy
    of the softmax.
    """
    first = output.points.stride == output.points.stride.min()
    logits, mask = output.logits[:, first].float(), output.mask[:, first]
    logits = dropout(logits, drop)
    if not authors:
        return cross_entropy(masked_topk_mean(logits, mask, ratio), normalized(labels))
    count = min(max(1, int(mask.sum()) // ratio), logits.shape[1])
    best = logits.topk(count, dim=1).values.mean(dim=1)
    return binary_cross_entropy(best.softmax(dim=-1), normalized(labels))
