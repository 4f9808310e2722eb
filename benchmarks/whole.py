"""Extraction of one video, whole command and stage by stage, next to the limit: ffmpeg's own decoding and scaling.

Each row is a rendered video of phone-like bit rate. `limit` is `ffmpeg -threads 2 -i X -vf fps=25,scale=-2:256 -f
null -` on the same file, in the same turns; where no ffmpeg is installed, the same filters through PyAV. `command` is
`wtal extract` as a user starts it, `start` that command on a video of one second, `extraction` the difference. Stages
are their busy seconds; they overlap, so that their sum is above the time that went by. All are seconds per minute of
video, but `start`, which comes once per call. `--page FILE` writes the table as a page of the documentation.
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
"""Backbone -> the options that it needs here."""
HEAVY = ("320x240,h264,30",)
"""Cases that networks are measured on: what they compute does not depend on the size of the pictures."""
_ENCODERS = {"h264": "libx264", "hevc": "libx265"}
_BITS = 0.13
"""Bits per pixel and frame, about those of a phone."""
_RENDERED = 480, 270
"""Size at most that motion is rendered at, and enlarged from."""
_GRAIN = 2.0
_FILTERS = "fps=25,scale=-2:256"
_STAGES = ("decode and size", "colour", "flow")


@dataclass(frozen=True)
class Case:
    """A video to render."""

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
        """The case in words."""
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
        """Motion at 25 frames per second, shown at the case's rate, with grain of the full size."""
        share = min(1.0, _RENDERED[0] / self.width)
        size = round(self.width * share), round(self.height * share)
        grain = np.random.default_rng(0).normal(0, _GRAIN, (self.height, self.width, 1)).astype(np.float32)
        for image in moving_frames(count, *size):
            grain = np.roll(grain, (7, 13), (0, 1))
            large = cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
            yield (large + grain).clip(0, 255).astype(np.uint8)


def main(argv: Sequence[str] | None = None) -> None:
    """Render, time in turns, report."""
    parser = arguments(__doc__)
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="WIDTHxHEIGHT,CODEC,FPS")
    parser.add_argument("--features", nargs="+", default=list(FEATURES), choices=list(FEATURES))
    parser.add_argument("--seconds", type=float, default=20, help="length of a video; of 4K a third")
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
            for part in ("extraction", "command"):
                ratios[_ratio(part, rows[-1])] = short(row[part] / row["limit"])
        video.unlink()
    return rows, ratios


def _row(folder: Path, video: Path, brief: Path, features: str, length: float, repeat: int) -> dict[str, float]:
    """Medians of one case, in seconds per minute of video."""
    busy: list[dict[str, float]] = []
    tasks = {
        "limit": partial(limit, video),
        "command": partial(extraction, video, folder, features, busy),
        "start": partial(extraction, brief, folder, features, []),
    }
    times = {name: statistics.median(values) for name, values in take_turns(tasks, repeat).items()}
    minute = 60 / length
    stages = {key: short(minute * statistics.median([one.get(key, 0) for one in busy[1:]])) for key in busy[-1]}
    return {
        "limit": short(minute * times["limit"]),
        "extraction": short(minute * max(times["command"] - times["start"], 0)),
        "command": short(minute * times["command"]),
        "start": short(times["start"]),
        **stages,
    }


def limit(video: Path) -> None:
    """Decode and scale a file, and throw the pictures away."""
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
    """Run the command into an empty workspace; appends its stages' busy seconds to `busy`."""
    with tempfile.TemporaryDirectory(dir=folder) as workspace:
        profile = Path(workspace) / "profile.json"
        call = [sys.executable, "-m", "wtal", "extract", str(video), "--backbone", features, *FEATURES[features]]
        call += ["--workspace", workspace, "--profile", str(profile)]
        subprocess.run(call, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        busy.append(_stages(json.loads(profile.read_text(encoding="utf-8"))))


def _stages(profile: Mapping[str, Any]) -> dict[str, float]:
    """Busy seconds of the stages that a video passes, features of both streams together."""
    seconds = {name: float(stage["seconds"]) for name, stage in profile["stages"].items()}
    known = {name: seconds.get(name, 0.0) for name in _STAGES}
    rest = sum(value for name, value in seconds.items() if name not in (*_STAGES, "store", "total"))
    return {**known, "features' own": rest}


_PAGE = """\
# Performance

Written by `python -m benchmarks.whole --page docs/performance.md`; not edited by hand.

Machine: {cpus} cores of {processor}, {system}, Python {python}. Quote the ratios: seconds are those of this machine.

Seconds per minute of video, medians over the repetitions, the ways of a row in turns:

- **limit**: `ffmpeg -threads 2 -i X -vf fps=25,scale=-2:256 -f null -`, which decodes and scales and does nothing else.
- **extraction**: `wtal extract` on the same file, less its start. **ratio** is extraction over limit.
- **start**: seconds of the command on a video of one second, once per call: Python, imports, processes, compiled code.
- **decode**, **flow**, **features' own**: busy seconds of the stages. They overlap: their sum is above the extraction.

{table}

Videos are rendered at {bits} bits per pixel and frame, about those of a phone. `i3d` has random weights, which cost
what trained ones cost; its part does not depend on the size of the pictures.
"""


def page(result: Mapping[str, Any]) -> str:
    """The page: the table, and how it was measured."""
    columns = {
        "video": lambda row: row["video"],
        "features": lambda row: f"`{row['features']}`",
        "limit": lambda row: row["limit"],
        "extraction": lambda row: row["extraction"],
        "ratio": lambda row: f"**{result['ratios'][_ratio('extraction', row)]}**",
        "start": lambda row: row["start"],
        "decode": lambda row: row["decode and size"],
        "flow": lambda row: row["flow"],
        "features' own": lambda row: row["features' own"],
    }
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * 2}{' ---: |' * (len(columns) - 2)}"]
    lines += [f"| {' | '.join(str(cell(row)) for cell in columns.values())} |" for row in result["rows"]]
    return _PAGE.format(**result["machine"], table="\n".join(lines), bits=_BITS)


def _ratio(part: str, row: Mapping[str, Any]) -> str:
    return f"{part} / limit, {row['video']}, {row['features']}"


if __name__ == "__main__":
    main(sys.argv[1:])
