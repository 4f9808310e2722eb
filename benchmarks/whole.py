"""Extraction of one video, whole and stage by stage, compared with the limit: ffmpeg's decoding and scaling.

Each row is a rendered video with the bit rate of a phone. `limit` is `ffmpeg -threads 2 -i X -vf fps=25,scale=-2:256 -f
null -` on the same file, taking turns with the others; without ffmpeg, it uses the same filters through PyAV. `command`
is `wtal extract` as a user starts it, `start` is that command on a video of one second, and `extraction` is the
difference. Stages have their busy seconds; they overlap, so their sum exceeds the elapsed time. All values are seconds
per minute of video, except `start`, which is seconds per call. `--page FILE` writes the table as a page of the docs.
"""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks._report import arguments, report
from benchmarks._scene import Image, moving_frames
from benchmarks._turns import short, take_turns
from wtal.data.files import write_atomic

CASES = (
    "160x120,h264,30",
    "320x240,h264,30",
    "1280x720,h264,30",
    "1280x720,hevc,30",
    "1280x720,h264,60",
    "1920x1080,h264,30",
    "1920x1080,hevc,30",
    "1920x1080,h264,60",
    "3840x2160,h264,30",
    "3840x2160,hevc,30",
)
FEATURES = {"motion-pyramid": [], "i3d": ["--weights", "random:0"]}
"""Backbone -> its options."""
HEAVY = ("320x240,h264,30",)
"""Cases for networks, whose computation does not depend on the size of the pictures."""
_ENCODERS = {"h264": "libx264", "hevc": "libx265"}
_BITS = 0.13
"""Bits per pixel and frame, about as many as a phone uses."""
_RENDERED = 480, 270
"""Largest size at which motion is rendered; larger pictures are enlarged from it."""
_GRAIN = 2.0
_FILTERS = "fps=25,scale=-2:256"
_STAGES = ("decode and size", "colour", "flow")


@dataclass(frozen=True)
class Case:
    """Video to render."""

    width: int
    height: int
    codec: str
    fps: int

    @classmethod
    def parse(cls, text: str) -> "Case":
        """Read `WIDTHxHEIGHT,CODEC,FPS`."""
        size, codec, fps = text.split(",")
        width, height = map(int, size.split("x"))
        return cls(width, height, codec, int(fps))

    @property
    def name(self) -> str:
        """Name in the table."""
        return f"{self.width}x{self.height} {self.codec.upper()} {self.fps}"

    def write(self, path: Path, seconds: float) -> Path:
        """Render the video."""
        options = {"preset": "veryfast", **({"x265-params": "log-level=none"} if self.codec == "hevc" else {})}
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(_ENCODERS[self.codec], rate=self.fps, options=options)
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
            stream.bit_rate = round(_BITS * self.width * self.height * self.fps)
            for image in self._pictures(round(seconds * self.fps)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        return path

    def _pictures(self, count: int) -> Iterator[Image]:
        """Yield frames of motion made for 25 frames per second, with grain at full size."""
        share = min(1.0, _RENDERED[0] / self.width)
        size = round(self.width * share), round(self.height * share)
        grain = np.random.default_rng(0).normal(0, _GRAIN, (self.height, self.width, 1)).astype(np.float32)
        for image in moving_frames(count, *size):
            grain = np.roll(grain, (7, 13), (0, 1))
            large = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
            yield (large + grain).clip(0, 255).astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> None:
    """Render the videos, time the ways in turns, and report medians over the repetitions."""
    parser = arguments(__doc__)
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="WIDTHxHEIGHT,CODEC,FPS", help="videos")
    parser.add_argument("--features", nargs="+", default=list(FEATURES), choices=list(FEATURES), help="backbones")
    parser.add_argument("--seconds", type=float, default=20, help="length of a video; a third of it for 4K")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    parser.add_argument("--page", type=Path, help="write the table to this page too")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows, ratios = measure(Path(folder), options.cases, options.features, options.seconds, options.repeat)
    result = report("whole", rows, ratios, options.out)
    if options.page is not None:
        write_atomic(options.page, page(result).encode())


def measure(
    folder: Path, cases: Sequence[str], features: Sequence[str], seconds: float, repeat: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows of seconds per minute of video, and ratios to the limit."""
    brief = Case(160, 120, "h264", 30).write(folder / "brief.mp4", 1)
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for text in cases:
        case = Case.parse(text)
        length = seconds / 3 if case.width * case.height > 4e6 else seconds
        video = case.write(folder / f"{text.replace(',', '-')}.mp4", length)
        for name in features:
            if FEATURES[name] and text not in HEAVY and len(cases) > 1:
                continue
            row = _row(folder, video, brief, name, length, repeat)
            rows.append({"video": case.name, "features": name, **row})
            for part in ("extraction", "command") if row["extraction"] else ("command",):  # too short to tell
                ratios[_ratio(part, rows[-1])] = short(row[part] / row["limit"])
        video.unlink()
    return rows, ratios


def _row(folder: Path, video: Path, brief: Path, features: str, length: float, repeat: int) -> dict[str, float]:
    """Medians of a case, in seconds per minute of video."""
    busy: list[dict[str, float]] = []
    tasks = {
        "limit": partial(limit, video),
        "command": partial(extraction, video, folder, features, busy),
        "start": partial(extraction, brief, folder, features, []),
    }
    times = {name: statistics.median(values) for name, values in take_turns(tasks, repeat).items()}
    minute = 60 / length
    stages = {key: short(minute * statistics.median([stage.get(key, 0) for stage in busy[1:]])) for key in busy[-1]}
    return {
        "limit": short(minute * times["limit"]),
        "extraction": short(minute * max(times["command"] - times["start"], 0)),
        "command": short(minute * times["command"]),
        "start": short(times["start"]),
        **stages,
    }


def limit(video: Path) -> None:
    """Decode and scale a file, and discard the pictures."""
    if program := shutil.which("ffmpeg"):
        call = [program, "-v", "error", "-threads", "2", "-i", str(video), "-vf", _FILTERS, "-f", "null", "-"]
        subprocess.run(call, check=True, stdin=subprocess.DEVNULL)
        return
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "AUTO", 2
        graph = av.filter.Graph()
        source = graph.add_buffer(template=stream)
        for name, value in (text.split("=", 1) for text in _FILTERS.split(",")):
            step = graph.add(name, value)
            source.link_to(step)
            source = step
        source.link_to(graph.add("buffersink"))
        graph.configure()
        for frame in container.decode(stream):
            graph.push(frame)
            while _pulled(graph):
                pass


def _pulled(graph: Any) -> bool:
    try:
        graph.pull()
    except (BlockingIOError, EOFError):
        return False
    return True


def extraction(video: Path, folder: Path, features: str, busy: list[dict[str, float]]) -> None:
    """Run the command with an empty workspace; append the busy seconds of its stages to `busy`."""
    with tempfile.TemporaryDirectory(dir=folder) as workspace:
        profile = Path(workspace) / "profile.json"
        call = [sys.executable, "-m", "wtal", "extract", str(video), "--backbone", features, *FEATURES[features]]
        call += ["--workspace", workspace, "--profile", str(profile)]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        busy.append(_stages(json.loads(profile.read_text(encoding="utf-8"))))


def _stages(profile: Mapping[str, Any]) -> dict[str, float]:
    """Busy seconds by stage, with the features of both streams together."""
    seconds = {name: float(stage["seconds"]) for name, stage in profile["stages"].items()}
    known = {name: seconds.get(name, 0.0) for name in _STAGES}
    rest = sum(value for name, value in seconds.items() if name not in (*_STAGES, "store", "total"))
    return {**known, "features only": rest}


_PAGE = """\
# Performance

Results of `python -m benchmarks.whole`, in the form written by its option `--page`.

Machine: {cpus} cores of {processor}, {system}, Python {python}. Quote the ratios: seconds depend on this machine.

Values are seconds per minute of video, except `start`. They are medians over the repetitions; the measurements of a row
took turns.

- **limit**: `ffmpeg -threads 2 -i X -vf fps=25,scale=-2:256 -f null -`, which only decodes and scales.
- **extraction**: `wtal extract` on the same file, without its start-up.
- **ratio**: extraction divided by limit.
- **start**: start-up in seconds per call, measured on a video of one second: Python, imports, processes, loading of
  compiled code.
- **decode**, **flow**, **features only**: busy seconds of the stages; they overlap, so the sum exceeds the extraction.

{table}

Videos are rendered with {bits} bits per pixel and frame, about as many as a phone uses. Rows may come from different
runs.{i3d}
"""


_I3D = """
`i3d` has random weights, which take the same time as trained ones; the time of the network does not depend on the size
of the pictures."""


def page(result: Mapping[str, Any]) -> str:
    """Render the page: the table and its method."""
    columns = {
        "video": lambda row: row["video"],
        "features": lambda row: f"`{row['features']}`",
        "limit": lambda row: row["limit"],
        "extraction": lambda row: row["extraction"],
        "ratio": lambda row: f"**{result['ratios'].get(_ratio('extraction', row), '')}**",
        "start": lambda row: row["start"],
        "decode": lambda row: row["decode and size"],
        "flow": lambda row: row["flow"],
        "features only": lambda row: row["features only"],
    }
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * 2}{' ---: |' * (len(columns) - 2)}"]
    lines += [f"| {' | '.join(str(cell(row)) for cell in columns.values())} |" for row in result["rows"]]
    i3d = _I3D if any(row["features"] == "i3d" for row in result["rows"]) else ""
    return _PAGE.format(**result["machine"], table="\n".join(lines), bits=_BITS, i3d=i3d)


def _ratio(part: str, row: Mapping[str, Any]) -> str:
    return f"{part} / limit, {row['video']}, {row['features']}"


if __name__ == "__main__":
    main(sys.argv[1:])
