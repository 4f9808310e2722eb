"""Distance of TV-L1 from OpenCV's default on frames of videos, in the flow and in features computed from it.

`distance` is the mean length of the difference of the two flows in pixels; `rest` is the mean difference in grey levels
between the first frame and the second one warped back along the flow: a better flow leaves less. The cosines compare
features of the two flows, as the mean over all clips and the least: `motion` is as in extraction, I3D has random
weights and takes the first sixteen flows of a clip.

Two rows serve as a scale. `OpenCV, noise` is OpenCV's flow of the same frames with noise of 0.4 grey levels, rounded
again: invisible, and as any encoder adds. `OpenCV, next clip` is the flow of another clip. The rows below are TV-L1 by
numba with other parameters, as in `flow`. Without `--videos` a small scene is rendered.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks._motions import endpoint_error
from benchmarks._report import arguments, report
from benchmarks._scene import moving_frames
from benchmarks.flow import parameters
from wtal.extractors import create_backbone
from wtal.extractors.backbone import Backbone
from wtal.extractors.decoding.frame_size import FrameSize, scale, scaled_size
from wtal.extractors.flow import create_flow
from wtal.extractors.tvl1 import numba_engine

METHODS = ("tvl1", "tvl1-fast", "dis")
SETTINGS = (
    "5x0.8 w5 3x30 m5",
    "5x0.8 w5 1x30 m5",
    "5x0.8 w3 10x30 m5",
    "5x0.8 w2 1x30 m5",
    "5x0.5 w5 10x30 m5",
    "5x0.5 w3 1x30 m5",
)
NOISE, NEXT = "OpenCV, noise", "OpenCV, next clip"
_GREY_LEVELS = 0.4
_SIZE = FrameSize(256, enlarge=False)

Grays = NDArray[np.uint8]
Flows = NDArray[np.float32]


def main(argv: Sequence[str] | None = None) -> None:
    """Compare flow and features of every clip by every method with OpenCV's."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", nargs="*", type=Path, default=(), help="video files")
    parser.add_argument("--clips", type=int, default=2, help="clips per video, spread over it")
    parser.add_argument("--size", default="160x120", metavar="WIDTHxHEIGHT", help="size of the rendered scene")
    parser.add_argument("--settings", nargs="*", default=SETTINGS, help="parameters of TV-L1 to try, as in `flow`")
    options = parser.parse_args(argv)
    networks = {"motion": create_backbone("motion", "flow"), "i3d": create_backbone("i3d", "flow", "random:0")}
    clips = list(real(options.videos, options.clips) if options.videos else rendered(options.size, options.clips))
    table = rows(clips, ways(clips, options.settings), networks)
    ratios = {
        f"rest of {row['task']} / of OpenCV": round(row["rest"] / table[0]["rest"], 3)
        for row in table
        if row["task"] in METHODS
    }
    report("flow_quality", table, ratios, options.out)


def real(videos: Sequence[Path], count: int) -> Iterator[Grays]:
    """Yield clips (L, H, W) one frame longer than motion's span, each from the middle of its part of a video."""
    length = create_backbone("motion", "flow").span + 1
    for path in videos:
        with av.open(str(path)) as container:
            total = sum(1 for _ in container.decode(video=0))
        starts = [max(0, round((part + 0.5) * total / count - length / 2)) for part in range(count)]
        with av.open(str(path)) as container:
            frames = [
                (number, frame.to_ndarray(format="rgb24"))
                for number, frame in enumerate(container.decode(video=0))
                if any(start <= number < start + length for start in starts)
            ]
        for start in starts:
            yield np.stack([_gray(image) for number, image in frames if start <= number < start + length])


def rendered(size: str, count: int) -> Iterator[Grays]:
    """Yield clips of the same length from a rendered scene."""
    width, height = map(int, size.split("x"))
    length = create_backbone("motion", "flow").span + 1
    frames = list(moving_frames(length * count, width, height))
    for start in range(0, length * count, length):
        yield np.stack([_gray(frame) for frame in frames[start : start + length]])


def ways(clips: Sequence[Grays], settings: Sequence[str]) -> dict[str, list[Flows]]:
    """Flow of every clip, (L - 1, H, W, 2), by name; OpenCV's default first."""
    opencv = create_flow("tvl1:opencv-contrib").new()
    engines: dict[str, Callable[[Grays, Grays], Flows]] = {name: create_flow(name).new() for name in METHODS}
    engines |= {name: numba_engine.Engine(parameters(name)) for name in settings}
    reference = [opencv(clip[:-1], clip[1:]) for clip in clips]
    noisy = [_noisy(clip, seed) for seed, clip in enumerate(clips)]
    return {
        "OpenCV": reference,
        NOISE: [opencv(clip[:-1], clip[1:]) for clip in noisy],
        **{name: [engine(clip[:-1], clip[1:]) for clip in clips] for name, engine in engines.items()},
        NEXT: [*reference[1:], reference[0]],
    }


def rows(clips: Sequence[Grays], flows: dict[str, list[Flows]], networks: dict[str, Backbone]) -> list[dict[str, Any]]:
    """One row per way, compared with the first."""
    reference, *_ = flows.values()
    features = {
        name: {
            way: [network.extract(flow[None, : network.span])[0] for flow in clip_flows]
            for way, clip_flows in flows.items()
        }
        for name, network in networks.items()
    }
    table = []
    for way, clip_flows in flows.items():
        row: dict[str, Any] = {"task": way, "clips": len(clips), "distance": "", "rest": ""}
        if way != NEXT:
            row["distance"] = round(float(np.mean([*map(endpoint_error, clip_flows, reference)])), 4)
            row["rest"] = round(float(np.mean([*map(_rest, clips, clip_flows)])), 3)
        for name, by_way in features.items():
            cosines = [_cosine(*pair) for pair in zip(by_way[way], next(iter(by_way.values())), strict=True)]
            row |= {f"{name}_mean": round(float(np.mean(cosines)), 5), f"{name}_least": round(min(cosines), 5)}
        table.append(row)
    return table


def _gray(image: NDArray[np.uint8]) -> Grays:
    target = scaled_size(image.shape[1], image.shape[0], _SIZE)
    return np.asarray(cv2.cvtColor(scale(image, target), cv2.COLOR_RGB2GRAY), np.uint8)


def _noisy(clip: Grays, seed: int) -> Grays:
    noise = np.random.default_rng(seed).normal(0, _GREY_LEVELS, clip.shape)
    return (clip + noise).round().clip(0, 255).astype(np.uint8)


def _rest(clip: Grays, flows: Flows) -> float:
    """Mean difference of a frame and its successor warped back, over pixels that stay inside the picture."""
    height, width = clip.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    differences = []
    for first, second, flow in zip(clip[:-1], clip[1:], flows, strict=True):
        columns, lines = x + flow[..., 0], y + flow[..., 1]
        inside = (columns >= 0) & (columns <= width - 1) & (lines >= 0) & (lines <= height - 1)
        back = cv2.remap(second.astype(np.float32), columns, lines, cv2.INTER_CUBIC)
        differences.append(np.abs(back - first)[inside].mean())
    return float(np.mean(differences))


def _cosine(left: NDArray[Any], right: NDArray[Any]) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


if __name__ == "__main__":
    main(sys.argv[1:])
