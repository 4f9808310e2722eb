"""Attention of positions to their neighbours, linear in their number; or to all of a video."""

from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention


def attend(query: Tensor, key: Tensor, value: Tensor, real: Tensor, heads: int, window: int | None) -> Tensor:
    """(B, T, E) thrice, real (B, T) -> (B, T, E): scaled dot-product attention of `heads` heads.

    Each position sees the real ones of the `window` positions around it (odd), or all real ones where it is None.
    Memory is T * window with a window, T * T without. What stands where padded is finite and without meaning.
    """
    if window is None:
        return _attend_by_head(query, key, value, real[:, None] | ~real[..., None], heads)
    half = window // 2
    batch, length, width = query.shape
    block = min(max(2 * half, 1), length)
    count = -(-length // block)
    behind = count * block - length
    queries = pad(query, (0, 0, 0, behind)).reshape(batch * count, block, width)
    keys, values = (_surroundings(x, half, behind, block) for x in (key, value))  # (B * n, span, E)
    seen = pad(real, (half, half + behind)).unfold(1, block + 2 * half, block)  # (B, n, span)
    band = real.new_ones(block, block + 2 * half).tril(2 * half).triu()
    asks = pad(real, (0, behind)).reshape(batch, count, block, 1)
    allowed = (band & seen[:, :, None]) | ~asks  # (B, n, block, span)
    answer = _attend_by_head(queries, keys, values, allowed.flatten(0, 1), heads)
    return answer.reshape(batch, count * block, width)[:, :length]


def _attend_by_head(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor, heads: int) -> Tensor:
    """(N, T, E), (N, S, E) twice, allowed (N, T, S) -> (N, T, E)."""
    query, key, value = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (query, key, value))
    return scaled_dot_product_attention(query, key, value, attn_mask=allowed[:, None]).transpose(1, 2).flatten(2)


def _surroundings(x: Tensor, half: int, behind: int, block: int) -> Tensor:
    """(B, T, E) -> (B * n, block + 2 * half, E): each block of positions with `half` more to either side."""
    return pad(x, (0, 0, half, half + behind)).unfold(1, block + 2 * half, block).transpose(2, 3).flatten(0, 1)
