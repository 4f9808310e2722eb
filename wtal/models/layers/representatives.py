"""Representative snippets: the few vectors that summarize a video's snippets (RSKP, CVPR 2022, section 3.1).

EM attention alternates between memberships of snippets in means (equation 2) and the means of these memberships
(equation 3). The other summaries are those of the paper's Tables 3 and 4; clusterings are scikit-learn's, without
gradient, one video at a time.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wtal.errors import UsageError
from wtal.models.layers.random_walk import Means, affinity, memberships

Summary = Literal["em", "em_fixed", "discriminative", "k_means", "agglomerative", "spectral"]
Labels = NDArray[np.integer[Any]]


class Representatives(nn.Module):
    """(B, T, E) snippets -> (B, K, E) means.

    `mu`: (K, E) means from which EM starts: a parameter if `learned`, otherwise a buffer; absent from summaries without
    a start.
    """

    def __init__(
        self,
        kind: Summary,
        count: int,
        width: int,
        iterations: int,
        sharpness: float,
        init: Literal["xavier", "orthogonal"],
        learned: bool,
    ) -> None:
        super().__init__()
        self.kind, self.count, self.iterations, self.sharpness = kind, count, iterations, sharpness
        if kind not in ("em", "em_fixed"):
            return
        start = torch.empty(count, width)
        (nn.init.xavier_uniform_ if init == "xavier" else nn.init.orthogonal_)(start)
        if learned:
            self.mu = nn.Parameter(start)
        else:
            self.register_buffer("mu", start)

    def forward(self, x: Tensor, mask: Tensor, evidence: Tensor) -> Means:
        """(B, T, E), mask (B, T), evidence (B, T) of an action -> K means per video, the present ones first."""
        if self.kind in ("em", "em_fixed"):
            return em_attention(x, self.mu, mask, self.iterations, self.sharpness)
        if self.kind == "discriminative":
            return most_evident(x, mask, evidence, self.count)
        return clustered(x, mask, self.count, _CLUSTERINGS[self.kind], self.sharpness)


def em_attention(x: Tensor, start: Tensor, mask: Tensor, iterations: int, sharpness: float) -> Means:
    """(B, T, E), (K, E), mask (B, T) -> K means per video: `iterations` rounds of equations 2 and 3."""
    features = start.expand(len(x), -1, -1)
    means = Means(features, torch.ones(features.shape[:2], dtype=torch.bool, device=x.device))
    for _ in range(iterations):
        means = means._replace(features=memberships(affinity(x, means, mask, sharpness)) @ x)
    return means


def most_evident(x: Tensor, mask: Tensor, evidence: Tensor, count: int) -> Means:
    """(B, T, E), (B, T), (B, T) -> the `count` snippets with the most evidence."""
    indices = evidence.masked_fill(~mask, -torch.inf).topk(min(count, x.shape[1]), dim=1).indices
    return Means(x.gather(1, indices[..., None].expand(-1, -1, x.shape[-1])), mask.gather(1, indices))


def extremes(means: Means, foreground: Tensor, count: int) -> Means:
    """K means, their foreground scores (B, K) -> the `count` highest and lowest; all, if there are no more."""
    if means.features.shape[1] <= 2 * count:
        return means
    high = foreground.masked_fill(~means.present, -torch.inf).topk(count, dim=1)
    low = foreground.masked_fill(~means.present, torch.inf).topk(count, dim=1, largest=False)
    indices = torch.cat([high.indices, low.indices], dim=1)
    features = means.features.gather(1, indices[..., None].expand(-1, -1, means.features.shape[-1]))
    return Means(features, means.present.gather(1, indices))


def clustered(x: Tensor, mask: Tensor, count: int, cluster: "Clustering", sharpness: float) -> Means:
    """(B, T, E), (B, T) -> the means of `count` clusters of each video, without gradient.

    Raises:
        UsageError: when scikit-learn is not installed.
    """
    means, present = x.new_zeros(len(x), count, x.shape[-1]), mask.new_zeros(len(x), count)
    for i, length in enumerate(mask.sum(dim=1).tolist()):
        snippets = x[i, :length].detach().float()
        clusters = min(count, length)
        labels = cluster(snippets, clusters, sharpness) if clusters > 1 else np.zeros(length, dtype=np.int64)
        cluster_of = torch.from_numpy(np.unique(labels, return_inverse=True)[1]).to(x.device)
        membership = torch.nn.functional.one_hot(cluster_of, count).to(snippets.dtype)
        sizes = membership.sum(dim=0)
        means[i] = (membership.T @ snippets / sizes.clamp(min=1)[:, None]).to(x.dtype)
        present[i] = sizes > 0
    return Means(means, present)


def _k_means(snippets: Tensor, count: int, _: float) -> Labels:
    labels: Labels = _sklearn().KMeans(count, n_init=1, random_state=0).fit_predict(snippets.cpu().numpy())
    return labels


def _agglomerative(snippets: Tensor, count: int, _: float) -> Labels:
    labels: Labels = _sklearn().AgglomerativeClustering(count).fit_predict(snippets.cpu().numpy())
    return labels


def _spectral(snippets: Tensor, count: int, sharpness: float) -> Labels:
    """Cluster by the affinities of EM attention, exp(sharpness * cosine)."""
    unit = torch.nn.functional.normalize(snippets, dim=-1)
    affinities = (sharpness * (unit @ unit.T).clamp(-1, 1) - sharpness).exp().cpu().double().numpy()
    # Dense and exact if there are hardly more snippets than clusters; assigning labels draws no random numbers.
    kind = _sklearn().SpectralClustering(
        count, affinity="precomputed", assign_labels="cluster_qr", random_state=0, eigen_solver="arpack"
    )
    labels: Labels = kind.fit_predict(affinities) if count < len(affinities) else np.arange(count)
    return labels


def _sklearn() -> Any:
    try:
        from sklearn import cluster
    except ModuleNotFoundError:
        raise UsageError("clustering of snippets needs scikit-learn; pip install scikit-learn") from None
    return cluster


Clustering = Callable[[Tensor, int, float], Labels]
_CLUSTERINGS: dict[str, Clustering] = {
    "k_means": _k_means,
    "agglomerative": _agglomerative,
    "spectral": _spectral,
}
