"""A challenge file of HACS size, written and checked video by video, against the plain way through one JSON value.

`written` and `checked` are the steps of `wtal submit`: cut, rounded and sorted by score; labels, scores, segments and
ids compared with the challenge and the annotations. `loaded` is `json.load` alone, the first step of every check with
the whole file in memory. `peak MiB` is the peak memory of a separate process for the check (and for the load), its
start and libraries included, of the same file.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._report import arguments, report
from benchmarks._turns import rates, rows, short, take_turns
from wtal.data.annotations import read_annotations, write_annotations
from wtal.data.assemble import DatasetBuilder
from wtal.data.dataset import Dataset
from wtal.data.segments import Detection
from wtal.eval.challenges import load_challenge
from wtal.eval.submission import NO_EXTERNAL_DATA, submission_head, submission_results, write_submission
from wtal.eval.submission_check import check_submission

_MEASURE = "detections_per_s"
_SECONDS = 150.0


def main(argv: Sequence[str] | None = None) -> None:
    """Write and check one file, in turns, and measure memory in processes of their own."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=int, default=6000, help="of the submission")
    parser.add_argument("--detections", type=int, default=1_000_000, help="of all of them together")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    parser.add_argument("--peak", nargs=3, metavar=("WAY", "FILE", "ANNOTATIONS"), help="print the peak of one way")
    options = parser.parse_args(argv)
    if options.peak:
        way, *paths = options.peak
        alone(way, *map(Path, paths))
        return
    found, dataset = scene(options.videos, options.detections)
    with tempfile.TemporaryDirectory() as folder:
        path, annotations = Path(folder) / "submission.json", Path(folder) / "annotations.json"
        write_annotations(dataset, annotations)
        times = take_turns(tasks(path, found, dataset), options.repeat)
        peaks = {way: peak(way, path, annotations) for way in ("checked", "loaded")}
        size = f"{options.videos} videos, {path.stat().st_size / 2**20:.0f} MiB"
    lines = [
        {**row, "peak_MiB": peaks.get(str(row["task"]), "")} for row in rows(size, times, options.detections, _MEASURE)
    ]
    speeds = rates(times, options.detections)
    ratios = {
        f"checked / loaded, {size}": short(speeds["checked"] / speeds["loaded"]),
        f"peak MiB checked / peak MiB loaded, {size}": short(peaks["checked"] / peaks["loaded"]),
    }
    report("submission", lines, ratios, options.out)


def scene(videos: int, detections: int) -> tuple[dict[str, list[Detection]], Dataset]:
    """Detections (seconds) spread evenly over videos with ids as HACS has them, and the videos' annotations."""
    rng = np.random.default_rng(0)
    classes = sorted(load_challenge("hacs").classes)
    builder = DatasetBuilder(classes)
    found: dict[str, list[Detection]] = {}
    for number, few in enumerate(np.array_split(np.arange(detections), videos)):
        name = f"video{number:06d}"
        builder.add_video(name, "testing", _SECONDS)
        starts, lengths = rng.uniform(0, 140, len(few)), rng.uniform(0.1, 10, len(few))
        labels, scores = rng.integers(len(classes), size=len(few)), rng.random(len(few)).astype(np.float32)
        found[name] = [
            Detection(float(start), float(start + length), classes[label], float(score))
            for start, length, label, score in zip(starts, lengths, labels, scores, strict=True)
        ]
    return found, builder.build()


def tasks(path: Path, found: Mapping[str, list[Detection]], dataset: Dataset) -> dict[str, Callable[[], object]]:
    """What is timed, by name; the first one makes the file of the others."""
    written = partial(write, path, found, {video.id: video.duration for video in dataset.videos.values()})
    written()
    return {"written": written, "checked": partial(check, path, dataset), "loaded": partial(load, path)}


def write(path: Path, found: Mapping[str, list[Detection]], durations: Mapping[str, float | None]) -> None:
    """The file of a submission."""
    with path.open("wb") as file:
        head = submission_head("hacs", NO_EXTERNAL_DATA, False)
        write_submission(file, head, submission_results(found, "hacs", durations))


def check(path: Path, dataset: Dataset) -> None:
    """Refuse to time a check that finds fault.

    Raises:
        ValueError: when the file would be refused.
    """
    found = check_submission(path, "hacs", dataset, "testing")
    if not found.ok:
        raise ValueError(f"the submission would be refused: {found.errors[0]}")


def load(path: Path) -> Any:
    """The JSON value, whole."""
    with path.open(encoding="utf-8") as file:
        return json.load(file)


def peak(way: str, path: Path, annotations: Path) -> int:
    """Peak MiB of a process of its own that checks or loads the file."""
    command = [sys.executable, "-m", "benchmarks.submission", "--peak", way, str(path), str(annotations)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def alone(way: str, path: Path, annotations: Path) -> None:
    """Do one thing and print the peak of this process in MiB."""
    if way == "checked":
        check(path, read_annotations(annotations))
    else:
        load(path)
    # getrusage would give the parent's peak where that is larger
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    print(int(line.split()[1]) // 1024)


if __name__ == "__main__":
    main(sys.argv[1:])
