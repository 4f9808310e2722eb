"""The demo collection: small videos whose actions differ only in motion, with times exact to the frame.

Every video has one actor of random shape, colours and texture over a drifting textured background. Between the actions
the actor is absent, still, or gliding in a straight line. Passing objects, objects that appear and vanish, flicker and
camera shakes occur anywhere, so that none of them predicts a label. A video depends only on (seed, subset, number): the
same call writes the same bytes.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import cv2
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from wtal.config import digest
from wtal.data.files import swept, write_atomic, write_json
from wtal.errors import UsageError, VideoError
from wtal.extractors.demo.scene import ACTIONS, HEIGHT, WIDTH, Floats, Image, ScenePart, draw, make_scene

Progress = Callable[[int, int], None]

VIDEOS: Mapping[str, int] = MappingProxyType({"training": 36, "validation": 16, "testing": 3})
"""Subset -> number of videos in the collection of `wtal demo`; the testing subset has no labels."""

_DRAWING = 1  # Incremented whenever the pixels of a video change, so that older files are rendered again.
_MARK = "wtal demo"
# x264's macroblock tree varied from run to run, on the same pixels and one thread; without it the bytes are stable.
_CODECS = {"libx264": {"preset": "veryfast", "crf": "20", "x264-params": "mbtree=0"}, "mpeg4": {"qscale": "3"}}


def render_collection(
    folder: Path,
    videos: Mapping[str, int] = VIDEOS,
    seed: int = 0,
    progress: Progress | None = None,
    jobs: int = 1,
) -> Path:
    """Write `folder/videos/*.mp4` and, last, `folder/annotations.json` in ActivityNet's layout; return its path.

    `videos` is the number of videos per subset (training, validation, testing), `progress` is called with (done,
    total). `jobs` videos are rendered at a time, each by one process, with the same result. A video completed earlier
    with the same seed is kept; one rendered by an earlier call that does not belong to this collection is removed, any
    other file is left alone.

    Raises:
        UsageError: when the seed or a number is negative, or a subset is unknown.
        VideoError: when PyAV's build has no suitable encoder.
    """
    unknown = sorted(set(videos) - set(VIDEOS))
    if unknown or seed < 0 or min(videos.values(), default=0) < 0:
        raise UsageError(
            f"the demo takes a seed >= 0 and counts >= 0 for {', '.join(VIDEOS)}; got {seed}, {dict(videos)}"
        )
    codec = _encoder()
    plans = [plan for subset in VIDEOS for plan in _plan_subset(subset, videos.get(subset, 0), seed)]
    target = folder / "videos"
    target.mkdir(parents=True, exist_ok=True)
    _remove_strangers(target, {f"{plan.id}.mp4" for plan in plans})
    report = progress or (lambda done, total: None)
    report(0, len(plans))
    work = (delayed(_render)(target / f"{plan.id}.mp4", plan, codec) for plan in plans)
    with swept(target / f"{plan.id}.mp4" for plan in plans):
        for done, _ in enumerate(Parallel(n_jobs=jobs, return_as="generator_unordered")(work), 1):
            report(done, len(plans))
    return write_json(folder / "annotations.json", _activitynet(plans), indent=1)


@dataclass(frozen=True)
class _Clock:
    """Clock on which frame k is shown from `ticks[k]` to `ticks[k + 1]`, in `unit` seconds; `ticks` is (F + 1,)."""

    unit: Fraction
    ticks: NDArray[np.int64]

    @property
    def frames(self) -> int:
        return len(self.ticks) - 1

    def second(self, frame: int) -> float:
        return float(int(self.ticks[frame]) * self.unit)

    def times(self) -> Floats:
        """Return (F,) seconds at which the frames are first shown."""
        return self.ticks[:-1] * float(self.unit)


@dataclass(frozen=True)
class _Plan:
    """Course of one video; its appearance is drawn from `entropy` later."""

    id: str
    subset: str
    labels: tuple[str, ...]
    entropy: tuple[int, ...]
    clock: _Clock
    parts: tuple[ScenePart, ...]


def _plan_subset(subset: str, count: int, seed: int) -> list[_Plan]:
    """Alternate videos of one class and of two; each class has the same number of videos, give or take two."""
    number = list(VIDEOS).index(subset)
    order = np.random.default_rng([seed, number]).permutation(sorted(ACTIONS)).tolist()
    plans = []
    for i in range(count):
        labels = [order[i % len(order)]]
        if i % 2:
            shift = 1 + i // 2 // len(order) % (len(order) - 1)
            labels.append(order[(i + shift) % len(order)])
        plans.append(_plan_video(f"{subset}_{i:02d}", subset, tuple(labels), (seed, number, i)))
    return plans


def _plan_video(name: str, subset: str, labels: tuple[str, ...], entropy: tuple[int, ...]) -> _Plan:
    """Plan two to four actions of 2 to 5 s, with gaps of 1.5 to 4 s before, between and after, 12 to 22 s in all."""
    rng = np.random.default_rng([*entropy, 0])
    while True:
        count = int(rng.integers(2, 5))
        seconds = np.empty(2 * count + 1)
        seconds[0::2], seconds[1::2] = rng.uniform(1.6, 3.9, count + 1), rng.uniform(2.1, 4.9, count)
        if 12 <= seconds.sum() <= 22:
            break
    shown = rng.permutation([labels[k % len(labels)] for k in range(count)]).tolist()
    clock = _clock(rng, entropy[-1], float(seconds.sum()))
    borders = np.searchsorted(clock.times(), np.cumsum(seconds)[:-1]).tolist()
    names = [None if k % 2 == 0 else shown[k // 2] for k in range(len(seconds))]
    edges = zip(names, [0, *borders], [*borders, clock.frames], strict=True)
    return _Plan(name, subset, labels, entropy, clock, tuple(ScenePart(*edge) for edge in edges))


def _clock(rng: np.random.Generator, number: int, seconds: float) -> _Clock:
    """Create a clock of 25 frames per second; of every twelve, one has 30, one 24, and one a phone's variable rate."""
    if number % 12 == 6:
        steps = rng.choice([20, 24, 25, 30, 40], size=round(seconds * 30), p=[0.3, 0.4, 0.1, 0.1, 0.1])
        ticks = np.concatenate([[0], np.cumsum(steps)])
        return _Clock(Fraction(1, 600), ticks[: int(np.searchsorted(ticks, seconds * 600)) + 1].astype(np.int64))
    fps = {3: 30, 9: 24}.get(number % 12, 25)
    return _Clock(Fraction(1, fps), np.arange(round(seconds * fps) + 1, dtype=np.int64))


def _activitynet(plans: list[_Plan]) -> dict[str, Any]:
    root = {"nodeId": 0, "nodeName": "Root", "parentId": None, "parentName": None}
    leaves = [
        {"nodeId": i, "nodeName": name, "parentId": 0, "parentName": "Root"}
        for i, name in enumerate(sorted(ACTIONS), 1)
    ]
    return {
        "version": f"WTAL DEMO {_DRAWING}.0",
        "taxonomy": [root, *leaves],
        "database": {plan.id: _entry(plan) for plan in plans},
    }


def _entry(plan: _Plan) -> dict[str, Any]:
    second = plan.clock.second
    labelled_parts = [part for part in plan.parts if part.label is not None and plan.subset != "testing"]
    return {
        "subset": plan.subset,
        "duration": second(plan.clock.frames),
        "resolution": f"{WIDTH}x{HEIGHT}",
        "annotations": [
            {"label": part.label, "segment": [second(part.first), second(part.end)]} for part in labelled_parts
        ],
    }


def _encoder() -> str:
    """Return the first of `_CODECS` that PyAV's build can write."""
    for name in _CODECS:
        with suppress(av.codec.codec.UnknownCodecError):
            return av.Codec(name, "w").name
    raise VideoError(
        f"rendering needs an encoder, {' or '.join(_CODECS)}; this build of PyAV has neither: reinstall av"
    )


def _frames(plan: _Plan) -> Iterator[Image]:
    rng = np.random.default_rng([*plan.entropy, 1])
    return draw(make_scene(rng, plan.parts, plan.clock.times()))


def _render(path: Path, plan: _Plan, codec: str) -> None:
    """Write the video, unless a finished one with the same mark exists."""
    mark = f"{_MARK} {digest([_DRAWING, plan.entropy, codec], 16)}"
    if _mark(path) != mark:
        write_atomic(path, _encode(plan, codec, mark))


def _encode(plan: _Plan, codec: str, mark: str) -> bytes:
    """Draw the video and encode it as MP4, on one thread, so that the bytes do not depend on the number of cores."""
    clock = plan.clock
    lengths = dict(zip(clock.ticks[:-1].tolist(), np.diff(clock.ticks).tolist(), strict=True))
    options = dict(_CODECS[codec])
    if len(set(lengths.values())) > 1:
        options["bf"] = (
            "0"  # MP4 keeps lengths in coding order: with B-frames the last one shown would get that of another.
        )
    content = io.BytesIO()
    with av.open(content, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        container.metadata["comment"] = mark
        stream: Any = container.add_stream(codec, rate=round(1 / clock.unit), options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = stream.codec_context.time_base = clock.unit
        stream.codec_context.thread_count = 1
        for packet in _packets(stream, plan):
            packet.duration = lengths[packet.pts]
            container.mux(packet)
    return content.getvalue()


def _packets(stream: Any, plan: _Plan) -> Iterator[Any]:
    for image, tick in zip(_frames(plan), plan.clock.ticks[:-1].tolist(), strict=True):
        planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = tick, plan.clock.unit
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _mark(path: Path) -> str | None:
    """Return the mark of a finished video of ours; None if there is no file, or it is not ours."""
    try:
        with av.open(str(path)) as container:
            return container.metadata.get("comment")
    except (av.FFmpegError, IsADirectoryError):
        return None


def _remove_strangers(folder: Path, names: set[str]) -> None:
    for path in sorted(folder.glob("*.mp4")):
        if path.name not in names and (_mark(path) or "").startswith(_MARK):
            path.unlink()
