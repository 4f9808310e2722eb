"""Snippets per second, computing features from frames or optical flow, by backbone.

`motion rgb` and `motion flow` turn clips into features; `motion flow from frames` also computes the DIS flow, on all
cores, as in extraction. `on one thread` limits torch to one core; the naive peers also use only one. The peers get the
same clips as `motion` and reduce them in the same way. `naive rgb` and `naive flow` compute the same kind of histograms
in numpy, one cell and one frame at a time, but omit the camera, body and mirror steps of `motion`. `cv2 HOG per frame`
is OpenCV's descriptor of each frame.

`i3d rgb` has random weights, which take the same time as trained ones, and processes one, four or eight clips at once.
The length of a clip is the backbone's span.
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import _naive
from benchmarks._report import arguments, report
from benchmarks._scene import moving_frames
from benchmarks._turns import rates, rows, short, take_turns
from benchmarks._video_flow import flows_of
from wtal.extractors import create_backbone
from wtal.extractors.backbone import Backbone
from wtal.extractors.backbones import BACKBONES
from wtal.extractors.execution.windows import Windows
from wtal.extractors.flow import create_flow
from wtal.extractors.optical_flow import FlowMethod

SIZES = ("160x120", "340x256")
BATCHES = (1, 4, 8)
I3D_SIZE = "340x256"
_MEASURE = "snippets_per_s"
_RATIOS = (
    ("motion rgb", "motion rgb on one thread"),
    ("motion rgb", "naive rgb"),
    ("motion rgb", "cv2 HOG per frame"),
    ("motion flow", "motion flow on one thread"),
    ("motion flow", "naive flow"),
    ("motion flow", "motion rgb"),
    ("motion flow from frames", "motion flow"),
)

Result = tuple[list[dict[str, Any]], dict[str, float]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run every backbone and its peers in turns, and report medians over the repetitions."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="WIDTHxHEIGHT", help="frames for motion")
    parser.add_argument("--snippets", type=int, default=8, help="snippets for motion")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="clips per call of i3d")
    parser.add_argument("--i3d-size", default=I3D_SIZE, metavar="WIDTHxHEIGHT", help="frames for i3d")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; backbones and peers take turns in each")
    options = parser.parse_args(argv)
    motion = measure_motion(options.sizes, options.snippets, options.repeat)
    i3d = measure_i3d(options.i3d_size, options.batches, options.repeat)
    report("backbones", motion[0] + i3d[0], motion[1] | i3d[1], options.out)


def measure_motion(sizes: Sequence[str], snippets: int, repeat: int) -> Result:
    """Rows and ratios of `motion` and its peers, for `snippets` snippets of frames of `sizes`."""
    module = BACKBONES.load("motion")
    stride, method = module.STRIDE, create_flow(module.FLOW)
    table: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for size in sizes:
        width, height = map(int, size.split("x"))
        frames = np.stack(list(moving_frames(snippets * stride, width, height)))
        times = take_turns(motion_tasks(frames, stride, method), repeat)
        table += rows(size, times, snippets, _MEASURE)
        speeds = rates(times, snippets)
        ratios |= {f"{name} / {base}, {size}": short(speeds[name] / speeds[base]) for name, base in _RATIOS}
    return table, ratios


def motion_tasks(frames: NDArray[np.uint8], stride: int, method: FlowMethod) -> dict[str, Callable[[], object]]:
    """Tasks on frames (n, H, W, 3) and on their flow, by name."""
    rgb, flow = (create_backbone("motion", stream) for stream in ("rgb", "flow"))
    clips = windows(frames, stride, rgb.span)
    flow_clips = windows(flows_of(frames, method, os.cpu_count() or 1), stride, flow.span)
    return {
        "motion rgb": partial(rgb.extract, clips),
        "motion rgb on one thread": partial(on_one_thread, rgb, clips),
        "naive rgb": partial(_naive.hog, clips),
        "cv2 HOG per frame": partial(_naive.opencv_hog, clips),
        "motion flow": partial(flow.extract, flow_clips),
        "motion flow on one thread": partial(on_one_thread, flow, flow_clips),
        "naive flow": partial(_naive.hof_and_mbh, flow_clips),
        "motion flow from frames": partial(from_frames, flow, frames, stride, method),
    }


def measure_i3d(size: str, batches: Sequence[int], repeat: int) -> Result:
    """Rows and ratios of `i3d` on frames of `size`, the same clips in each of the batch sizes."""
    width, height = map(int, size.split("x"))
    backbone = create_backbone("i3d", "rgb", "random:0")
    count = max(batches)
    frames = np.stack(list(moving_frames(count * backbone.span, width, height)))
    clips = windows(frames, backbone.span, backbone.span)
    times = take_turns(
        {f"i3d rgb batch {batch}": partial(in_batches, backbone, clips, batch) for batch in batches}, repeat
    )
    speeds = rates(times, count)
    base, *others = speeds
    ratios = {
        f"{name} / {base.removeprefix('i3d rgb ')}, {size}": short(speeds[name] / speeds[base]) for name in others
    }
    return rows(size, times, count, _MEASURE), ratios


def windows(frames: NDArray[Any], stride: int, span: int) -> NDArray[Any]:
    """Cut frames (n, H, W, C), n a multiple of `stride`, into clips (n / stride, span, H, W, C)."""
    cutter = Windows(stride, span, batch=len(frames))
    return np.concatenate([clips for _, clips in [*cutter.push(frames), *cutter.finish()]])


def from_frames(backbone: Backbone, frames: NDArray[np.uint8], stride: int, method: FlowMethod) -> NDArray[np.float32]:
    """Features (n / stride, D) of the flow of frames (n, H, W, 3) uint8 RGB."""
    return backbone.extract(windows(flows_of(frames, method, os.cpu_count() or 1), stride, backbone.span))


def on_one_thread(backbone: Backbone, clips: NDArray[Any]) -> NDArray[np.float32]:
    """Extract (N, L, H, W, C) -> (N, D) with torch limited to one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return backbone.extract(clips)
    finally:
        torch.set_num_threads(threads)


def in_batches(backbone: Backbone, clips: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """Extract (N, L, H, W, 3) -> (N, D), `batch` clips at once."""
    return np.concatenate([backbone.extract(clips[i : i + batch]) for i in range(0, len(clips), batch)])


if __name__ == "__main__":
    main(sys.argv[1:])
