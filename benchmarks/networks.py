"""Snippets per second for every network, and the gain from each way of running it.

Weights are random; trained ones would take the same time. Preprocessing is included. `eager` is torch in float32 with
default settings, `channels last` is the same with weights and clips in that memory order, `bfloat16` uses autocast, and
`openvino` is compiled by OpenVINO (CPU only; compilation is not counted). On a GPU, `--peak` (the card's TFLOP/s at the
precision of `eager`) adds the share of this peak that each way reaches. torch counts the operations; a multiply-add
counts as two.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._report import arguments, report
from benchmarks._scene import moving_frames
from benchmarks._turns import rates, rows, short, take_turns
from wtal.extractors import create_backbone
from wtal.extractors.backbone import Backbone
from wtal.extractors.decoding.frame_size import scaled_size
from wtal.extractors.runtime import OPENVINO, run_by

NETWORKS = (
    "i3d",
    "slowfast:r50",
    "slowfast:r101",
    "csn:r101",
    "csn:ir152",
    "tdn:r50-8",
    "tdn:r101-8",
    "vivit",
    "torchvision:r2plus1d_18",
    "torchvision:s3d",
    "torchvision:swin3d_t",
    "torchvision:mvit_v2_s",
)
WAYS = ("eager", "channels last", "bfloat16", "openvino")


class ChannelsLast(torch.nn.Module):
    """Network with weights and clips in the memory format channels-last."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network
        for parameter in network.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)

    @torch.inference_mode()
    def extract(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Extract features: (N, L, H, W, 3) uint8 RGB -> (N, D)."""
        device = next(self.network.parameters()).device
        clips = self.network.preprocess(frames).to(device)
        features: torch.Tensor = self.network(clips.contiguous(memory_format=torch.channels_last_3d))
        return features.float().cpu().numpy()


def main(argv: Sequence[str] | None = None) -> None:
    """Time every network in every way, all ways of one in turns."""
    parser = arguments(__doc__)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="backbones with an rgb stream")
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS, help="ways to run them; eager first")
    parser.add_argument("--batch", type=int, default=1, help="clips per call")
    parser.add_argument("--size", default="340x256", metavar="WIDTHxHEIGHT", help="size of the frames")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--peak", type=float, help="peak TFLOP/s of the card")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    options = parser.parse_args(argv)
    table, ratios = [], {}
    for name in options.networks:
        network = create_backbone(name, "rgb", "random:0").to(options.device)
        clips = clips_of(network, options.size, options.batch)
        ways = [way for way in options.ways if way != "openvino" or options.device == "cpu"]
        times = take_turns({way: partial(ready(name, way, options.device), clips) for way in ways}, options.repeat)
        speeds = rates(times, options.batch)
        work = operations(network, clips[:1])
        for row in rows(name, times, options.batch, "snippets_per_s"):
            row["gflop_per_snippet"] = round(work / 1e9, 1)
            if options.peak:
                row["share_of_peak_percent"] = round(100 * speeds[row["task"]] * work / (options.peak * 1e12), 1)
            table.append(row)
        ratios |= {f"{way} / eager, {name}": short(speeds[way] / speeds["eager"]) for way in ways[1:]}
    report("networks", table, ratios, options.out)


def ready(name: str, way: str, device: str) -> Callable[[NDArray[np.uint8]], object]:
    """New network, ready to take clips in one `way`."""
    network = create_backbone(name, "rgb", "random:0")
    if way == "openvino":
        return run_by(network, OPENVINO).extract
    if way == "bfloat16":
        return run_by(network, precision=way, device=device).extract
    return ChannelsLast(network.to(device)).extract if way == "channels last" else network.to(device).extract


def clips_of(network: Backbone, size: str, count: int) -> NDArray[np.uint8]:
    """Clips (count, L, H, W, 3) uint8 RGB, scaled as in extraction."""
    width, height = map(int, size.split("x"))
    width, height = scaled_size(width, height, network.size)
    return np.stack([np.stack(list(moving_frames(network.span, width, height)))] * count)


def operations(network: Backbone, clips: NDArray[np.uint8]) -> int:
    """Number of multiplications and additions of one forward pass."""
    with FlopCounterMode(display=False) as counter:
        network.extract(clips)
    return int(counter.get_total_flops())


if __name__ == "__main__":
    main(sys.argv[1:])
