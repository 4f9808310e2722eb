"""Training steps of every head: all videos of a step at once, compared with one video after another.

All variants train the same head on the same videos (random features, evenly spread lengths) with the same optimizer, on
the mean of the videos' losses. `loop` is what authors usually write if they do not batch videos of different lengths,
with torch's own convolutions; `loop of our layers` has the convolutions of the batch. Where the loss couples videos,
each video passes through the head alone and the loss gets all outputs. Heads have their papers' widths on features of
2 x 1024, or a width of 128 on features of 2 x 64, where a repetition is ten steps. All variants keep freed memory, as
the trainer does.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._report import arguments, report
from benchmarks._turns import Times, rates, rows, short, take_turns
from wtal.data.batch import SnippetBatch
from wtal.heap import freed_memory_kept
from wtal.models import create_head
from wtal.models.head import Head, HeadOutput
from wtal.models.heads import HEADS
from wtal.models.layers.temporal import Dropout, TemporalConv

WIDE, NARROW = 1024, 64
CLASSES = 20
SETTINGS: dict[str, dict[str, Any]] = {
    "bm": {"embedding": 128, "attention_width": 128},
    "co2net": {"width": 128, "attention_width": 128},
    "ddgnet": {"width": 128, "attention_width": 128},
    "delu": {"width": 128, "attention_width": 128},
    "case": {"width": 128},
    "facnet": {"width": 128},
    "stpn": {"embedding": 128, "attention_width": 128},
    "tscn": {"width": 128},
    "wtalc": {"width": 128},
    "basnet": {"width": 128, "filter_width": 128},
    "lgbm": {"width": 128, "attention_width": 32},
    "um": {"width": 128},
    "rskp": {"width": 128},
}
"""Head -> settings that make its layers 128 wide."""
_MEASURE = "videos_per_s"
_STEPS = 10


def main(argv: Sequence[str] | None = None) -> None:
    """Time steps of each head in every way, in turns, at both widths."""
    parser = arguments(__doc__)
    parser.add_argument("--heads", nargs="+", default=HEADS.names(), help="heads to train")
    parser.add_argument("--videos", type=int, default=10, help="videos per step")
    parser.add_argument(
        "--lengths", type=int, nargs=2, default=(150, 450), help="snippets of the shortest and the longest video"
    )
    parser.add_argument("--widths", nargs="+", default=("paper", "128"), help="paper, 128 or both")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    options = parser.parse_args(argv)
    lengths = torch.linspace(*map(float, options.lengths), options.videos).long().tolist()
    table, ratios = [], {}
    for width in options.widths:
        for name in options.heads:
            steps = 1 if width == "paper" else _STEPS
            # One process per head, as in training, so that earlier heads have no effect.
            with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                times = alone.submit(measured, name, width, lengths, options.device, steps, options.repeat).result()
            speeds = rates(times, steps * options.videos)
            table += rows(f"width {width}", times, steps * options.videos, _MEASURE)
            for loop in ("loop", "loop of our layers"):
                ratio = speeds[f"{name} batch"] / speeds[f"{name} {loop}"]
                ratios[f"{name} batch / {loop}, width {width}"] = short(ratio)
    report("heads", table, ratios, options.out)


def measured(name: str, width: str, lengths: Sequence[int], device: str, steps: int, repeat: int) -> Times:
    """Seconds of each way to train a head."""
    with freed_memory_kept():
        return take_turns(tasks(name, width, lengths, device, steps), repeat)


def tasks(name: str, width: str, lengths: Sequence[int], device: str, steps: int) -> dict[str, Callable[[], object]]:
    """Tasks of `steps` training steps, by head and way."""
    dim, settings = (WIDE, {}) if width == "paper" else (NARROW, SETTINGS.get(name, {}))
    torch.manual_seed(0)
    head = create_head(name, CLASSES, {"rgb": dim, "flow": dim}, **settings).to(device).train()
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-4)
    # Non-negative, as features after a rectifier are.
    videos: list[Mapping[str, Tensor]] = [
        {stream: torch.rand(n, dim, device=device) for stream in ("rgb", "flow")} for n in lengths
    ]
    labels = torch.eye(CLASSES, device=device)[torch.arange(len(lengths)) // 2 % CLASSES]
    batch, loop = partial(step_of_batch, head, optimizer), partial(step_of_loop, head, optimizer)
    ways = {"batch": batch, "loop": partial(with_torchs_convolutions, loop), "loop of our layers": loop}
    return {f"{name} {way}": partial(_repeated, step, steps, videos, labels) for way, step in ways.items()}


def step_of_batch(
    head: Head, optimizer: torch.optim.Optimizer, videos: Sequence[Mapping[str, Tensor]], labels: Tensor
) -> None:
    """Take an optimizer step on all videos at once."""
    optimizer.zero_grad(set_to_none=True)
    batch = SnippetBatch.collate(videos, labels).to(labels.device)
    _backward(head.loss(head(batch), batch), 1.0)
    _finish(optimizer, labels)


def step_of_loop(
    head: Head, optimizer: torch.optim.Optimizer, videos: Sequence[Mapping[str, Tensor]], labels: Tensor
) -> None:
    """Take an optimizer step on the same videos, single after the other."""
    optimizer.zero_grad(set_to_none=True)
    alone = [SnippetBatch.collate([video], labels[i : i + 1]).to(labels.device) for i, video in enumerate(videos)]
    if head.pairs or head.ties_videos:
        batch = SnippetBatch.collate(videos, labels).to(labels.device)
        _backward(head.loss(stacked([head(single) for single in alone], batch), batch), 1.0)
    else:
        for single in alone:
            _backward(head.loss(head(single), single), 1.0 / len(videos))
    _finish(optimizer, labels)


def stacked(outputs: Sequence[HeadOutput], batch: SnippetBatch) -> HeadOutput:
    """Join the outputs of single videos into the output of their batch."""
    lengths = batch.lengths.tolist()

    def join(values: Sequence[Tensor]) -> Tensor:
        over_time = values[0].ndim > 1 and [value.shape[1] for value in values] == lengths
        return nn.utils.rnn.pad_sequence([v[0] for v in values], True) if over_time else torch.cat(list(values))

    first = outputs[0]
    return HeadOutput(
        join([output.cas for output in outputs]),
        None
        if first.attention is None
        else join([output.attention for output in outputs if output.attention is not None]),
        join([output.video_scores for output in outputs]),
        {key: join([output.extras[key] for output in outputs]) for key in first.extras},
        {key: stacked([output.streams[key] for output in outputs], batch) for key in first.streams},
    )


def with_torchs_convolutions(step: Callable[..., None], *arguments: Any) -> None:
    """Take a step over single videos with torch's own convolutions and dropout."""
    ours = TemporalConv.forward, TemporalConv.of_scaled, Dropout.forward
    _layers(_torchs_convolution, _torchs_convolution_of_scaled, nn.Dropout.forward)
    try:
        step(*arguments)
    finally:
        _layers(*ours)


def _layers(convolution: Any, of_scaled: Any, dropout: Any) -> None:
    TemporalConv.forward, TemporalConv.of_scaled, Dropout.forward = convolution, of_scaled, dropout  # type: ignore[method-assign]


def _torchs_convolution(layer: TemporalConv, rows: Tensor, mask: Tensor) -> Tensor:
    # A head may pass a video twice per call, once per branch.
    videos = [
        nn.functional.conv1d(video.t()[None], layer.weight, layer.bias, padding=layer.padding)[0].t()
        for video in rows.split(mask.sum(dim=1).tolist())
    ]
    return videos[0] if len(videos) == 1 else torch.cat(videos)


def _torchs_convolution_of_scaled(layer: TemporalConv, rows: Tensor, scales: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([_torchs_convolution(layer, scale[:, None] * rows, mask) for scale in scales])


def _repeated(step: Callable[..., None], times: int, *arguments: Any) -> None:
    for _ in range(times):
        step(*arguments)


def _backward(terms: Mapping[str, Tensor], share: float) -> None:
    loss = torch.stack(list(terms.values())).sum() * share
    loss.backward()  # type: ignore[no-untyped-call]


def _finish(optimizer: torch.optim.Optimizer, labels: Tensor) -> None:
    optimizer.step()
    if labels.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(sys.argv[1:])
