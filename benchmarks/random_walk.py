"""RSKP's random walk: the T x T solve of the paper's equation 6 compared with the exact low-rank form used by wtal.

Both get the same snippets, means and affinities of one video, at the paper's width of 2048 and with its 8 means, and
yield the same features within single precision, which is checked. `forward and backward` also computes the gradients of
snippets, means and affinities, as in training.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks._report import arguments, report
from benchmarks._turns import rates, rows, short, take_turns
from wtal.models.layers.random_walk import Means, affinity, closed_form, direct

LENGTHS = (100, 200, 500, 1000, 2000, 5000)
W, SHARPNESS = 0.5, 5.0
_MEASURE = "walks_per_s"
_ACCURACY = 1e-5

Form = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def main(argv: Sequence[str] | None = None) -> None:
    """Time both forms at every length, in turns."""
    parser = arguments(__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="snippets of the video")
    parser.add_argument("--width", type=int, default=2048, help="width of the features")
    parser.add_argument("--means", type=int, default=8, help="representative snippets")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    options = parser.parse_args(argv)
    table, ratios = [], {}
    for length in options.lengths:
        inputs = scene(length, options.width, options.means, options.device)
        check(inputs)
        times = take_turns(tasks(inputs), options.repeat)
        speeds, size = rates(times, 1), f"{length} snippets"
        table += rows(size, times, 1, _MEASURE)
        for way in ("forward", "forward and backward"):
            ratio = speeds[f"low rank {way}"] / speeds[f"T x T solve {way}"]
            ratios[f"low rank / T x T solve, {way}, {size}"] = short(ratio)
    report("random_walk", table, ratios, options.out)


def scene(length: int, width: int, count: int, device: str) -> list[Tensor]:
    """Snippets (1, T, E), means (1, K, E) and affinities (1, T, K), which require gradients."""
    torch.manual_seed(0)
    x, features = torch.rand(1, length, width, device=device), torch.rand(1, count, width, device=device)
    mask = torch.ones(1, length, dtype=torch.bool, device=device)
    z = affinity(x, Means(features, torch.ones(1, count, dtype=torch.bool, device=device)), mask, SHARPNESS)
    return [value.detach().requires_grad_() for value in (x, features, z)]


def tasks(inputs: Sequence[Tensor]) -> dict[str, Callable[[], object]]:
    """Tasks to time, by name."""
    forms = {"low rank": closed_form, "T x T solve": direct}
    alone = {f"{name} forward": partial(forward, form, inputs) for name, form in forms.items()}
    both = {f"{name} forward and backward": partial(with_gradients, form, inputs) for name, form in forms.items()}
    return alone | both


@torch.no_grad()
def forward(form: Form, inputs: Sequence[Tensor]) -> Tensor:
    """Snippets after the walk, (1, T, E)."""
    return _awaited(form(*inputs, W))


def with_gradients(form: Form, inputs: Sequence[Tensor]) -> Tensor:
    """Gradient of the snippets, (1, T, E); those of means and affinities are computed too."""
    walked = form(*inputs, W)
    return _awaited(torch.autograd.grad(walked, inputs, torch.ones_like(walked))[0])


def check(inputs: Sequence[Tensor]) -> None:
    """Refuse to time two forms that disagree.

    Raises:
        ValueError: when they differ by more than single precision allows.
    """
    left, right = forward(closed_form, inputs), forward(direct, inputs)
    difference = float((left - right).abs().max() / right.abs().max())
    if difference > _ACCURACY:
        raise ValueError(
            f"the low-rank form and the T x T solve differ by {difference:.1e}; {_ACCURACY:.0e} is allowed"
        )


def _awaited(value: Tensor) -> Tensor:
    if value.is_cuda:
        torch.cuda.synchronize()
    return value


if __name__ == "__main__":
    main(sys.argv[1:])
