"""How near TV-L1 comes to OpenCV's default on frames of videos, as flow and as features made of it.

`distance` is the mean length of the difference of the two flows in pixels, `rest` the mean difference between the first
frame and the second one warped back along the flow, in grey levels: the flow that explains the frames better leaves
less. The cosines are those between features from the two flows, the mean over all clips and the least of them; those of
`motion` as extraction makes them, those of I3D with random weights, of the first sixteen flows of a clip.

Two rows are to hold the others against. `OpenCV, noise` is OpenCV's flow of the same frames with noise of 0.4 grey
levels, rounded again: what no eye sees, and any encoder adds. `OpenCV, next clip` is that of another clip. The rows
below are TV-L1 by numba with other parameters, as in `flow`. Without `--videos` a small scene is rendered.
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
from wtal.extractors.optical_flow import create_flow
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
    """Flow and features of every clip by every method, and how they compare with OpenCV's."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", nargs="*", type=Path, default=(), help="video files")
    parser.add_argument("--clips", type=int, default=2, help="clips of each, spread over it")
    parser.add_argument("--size", default="160x120", metavar="WIDTHxHEIGHT", help="of the scene that is rendered")
    parser.add_argument("--settings", nargs="*", default=SETTINGS, help="parameters of TV-L1 to try, as in `flow`")
    options = parser.parse_args(argv)
    networks = {"motion": create_backbone("motion", "flow"), "i3d": create_backbone("i3d", "flow", "random:0")}
    clips = list(real(options.videos, options.clips) if options.videos else rendered(options.size, options.clips))
    found = rows(clips, ways(clips, options.settings), networks)
    ratios = {
        f"rest of {row['task']} / of OpenCV": round(row["rest"] / found[0]["rest"], 3)
        for row in found
        if row["task"] in METHODS
    }
    report("flow_quality", found, ratios, options.out)


def real(videos: Sequence[Path], count: int) -> Iterator[Grays]:
    """Clips (L, H, W) of motion's length and one frame more, each from the middle of its part of a video."""
    length = create_backbone("motion", "flow").span + 1
    for path in videos:
        with av.open(str(path)) as container:
            total = sum(1 for _ in container.decode(video=0))
        starts = [max(0, round((part + 0.5) * total / count - length / 2)) for part in range(count)]
        with av.open(str(path)) as container:
            kept = [
                (number, frame.to_ndarray(format="rgb24"))
                for number, frame in enumerate(container.decode(video=0))
                if any(start <= number < start + length for start in starts)
            ]
        for start in starts:
            yield np.stack([_gray(image) for number, image in kept if start <= number < start + length])


def rendered(size: str, count: int) -> Iterator[Grays]:
    """The same of a scene."""
    width, height = map(int, size.split("x"))
    length = create_backbone("motion", "flow").span + 1
    frames = list(moving_frames(length * count, width, height))
    for start in range(0, length * count, length):
        yield np.stack([_gray(frame) for frame in frames[start : start + length]])


def ways(clips: Sequence[Grays], settings: Sequence[str]) -> dict[str, list[Flows]]:
    """Name -> the flow of every clip, (L - 1, H, W, 2); OpenCV's default first."""
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
    """A row for every way, against the first."""
    reference, *_ = flows.values()
    features = {
        name: {way: [network.extract(flow[None, : network.span])[0] for flow in each] for way, each in flows.items()}
        for name, network in networks.items()
    }
    found = []
    for way, made in flows.items():
        row: dict[str, Any] = {"task": way, "clips": len(clips), "distance": "", "rest": ""}
        if way != NEXT:
            row["distance"] = round(float(np.mean([*map(endpoint_error, made, reference)])), 4)
            row["rest"] = round(float(np.mean([*map(_rest, clips, made)])), 3)
        for name, each in features.items():
            cosines = [_cosine(*pair) for pair in zip(each[way], next(iter(each.values())), strict=True)]
            row |= {f"{name}_mean": round(float(np.mean(cosines)), 5), f"{name}_least": round(min(cosines), 5)}
        found.append(row)
    return found


def _gray(image: NDArray[np.uint8]) -> Grays:
    target = scaled_size(image.shape[1], image.shape[0], _SIZE)
    return np.asarray(cv2.cvtColor(scale(image, target), cv2.COLOR_RGB2GRAY), np.uint8)


def _noisy(clip: Grays, seed: int) -> Grays:
    noise = np.random.default_rng(seed).normal(0, _GREY_LEVELS, clip.shape)
    return (clip + noise).round().clip(0, 255).astype(np.uint8)


def _rest(clip: Grays, flows: Flows) -> float:
    """Mean difference of a frame and its successor warped back, over those pixels that the flow leaves inside."""
    height, width = clip.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    found = []
    for first, second, flow in zip(clip[:-1], clip[1:], flows, strict=True):
        columns, lines = x + flow[..., 0], y + flow[..., 1]
        inside = (columns >= 0) & (columns <= width - 1) & (lines >= 0) & (lines <= height - 1)
        back = cv2.remap(second.astype(np.float32), columns, lines, cv2.INTER_CUBIC)
        found.append(np.abs(back - first)[inside].mean())
    return float(np.mean(found))


def _cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


if __name__ == "__main__":
    main(sys.argv[1:])
