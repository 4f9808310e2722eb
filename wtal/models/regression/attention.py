"""Attention to a window of neighbours, linear in the number of positions; or to the whole video."""

from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention


def attend(query: Tensor, key: Tensor, value: Tensor, real: Tensor, heads: int, window: int | None) -> Tensor:
    """(B, T, E) three times, real (B, T) -> (B, T, E): scaled dot-product attention with `heads` heads.

    Each position attends to the real ones among the `window` positions around it (odd), or to all real ones if it is
    None. Memory is T * window with a window, T * T without. Values at padded positions are finite and meaningless.
    """
    if window is None:
        return _attend_by_head(query, key, value, real[:, None] | ~real[..., None], heads)
    half = window // 2
    batch, length, width = query.shape
    block = min(max(2 * half, 1), length)
    count = -(-length // block)
    padding = count * block - length
    queries = pad(query, (0, 0, 0, padding)).reshape(batch * count, block, width)
    keys, values = (_surroundings(x, half, padding, block) for x in (key, value))  # (B * n, span, E)
    visible = pad(real, (half, half + padding)).unfold(1, block + 2 * half, block)  # (B, n, span)
    band = real.new_ones(block, block + 2 * half).tril(2 * half).triu()
    queried = pad(real, (0, padding)).reshape(batch, count, block, 1)
    allowed = (band & visible[:, :, None]) | ~queried  # (B, n, block, span)
    answer = _attend_by_head(queries, keys, values, allowed.flatten(0, 1), heads)
    return answer.reshape(batch, count * block, width)[:, :length]


def _attend_by_head(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, heads: int) -> Tensor:
    """(N, T, E), (N, S, E) twice, allowed (N, T, S) -> (N, T, E)."""
    query, key, value = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=allowed[:, None]).transpose(1, 2).flatten(2)


def _surroundings(x: Tensor, half: int, padding: int, block: int) -> Tensor:
    """(B, T, E) -> (B * n, block + 2 * half, E): each block of positions with `half` more on each side."""
    return pad(x, (0, 0, half, half + padding)).unfold(1, block + 2 * half, block).transpose(2, 3).flatten(0, 1)
