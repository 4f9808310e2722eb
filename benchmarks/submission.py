"""A challenge file of HACS size, written and checked video by video, compared with loading it as one JSON value.

`written` and `checked` are the steps of `wtal submit`: detections are cut, rounded and sorted by score; labels, scores,
segments and ids are compared with the challenge and the annotations. `loaded` is `json.load` alone, the first step of
any check with the whole file in memory. `peak MiB` is the peak memory of a separate process that checks (or loads) the
same file, including its start-up and libraries.
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
    """Write and check one file in turns, and measure memory in separate processes."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=int, default=6000, help="videos of the submission")
    parser.add_argument("--detections", type=int, default=1_000_000, help="detections of all videos together")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    parser.add_argument(
        "--peak", nargs=3, metavar=("WAY", "FILE", "ANNOTATIONS"), help="print the peak memory of one way"
    )
    options = parser.parse_args(argv)
    if options.peak:
        way, *paths = options.peak
        alone(way, *map(Path, paths))
        return
    detections, dataset = scene(options.videos, options.detections)
    with tempfile.TemporaryDirectory() as folder:
        path, annotations = Path(folder) / "submission.json", Path(folder) / "annotations.json"
        write_annotations(dataset, annotations)
        times = take_turns(tasks(path, detections, dataset), options.repeat)
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


def scene(videos: int, count: int) -> tuple[dict[str, list[Detection]], Dataset]:
    """Detections (seconds) spread evenly over videos with ids as in HACS, and the videos' annotations."""
    rng = np.random.default_rng(0)
    classes = sorted(load_challenge("hacs").classes)
    builder = DatasetBuilder(classes)
    detections: dict[str, list[Detection]] = {}
    for number, share in enumerate(np.array_split(np.arange(count), videos)):
        name = f"video{number:06d}"
        builder.add_video(name, "testing", _SECONDS)
        starts, lengths = rng.uniform(0, 140, len(share)), rng.uniform(0.1, 10, len(share))
        labels, scores = rng.integers(len(classes), size=len(share)), rng.random(len(share)).astype(np.float32)
        detections[name] = [
            Detection(float(start), float(start + length), classes[label], float(score))
            for start, length, label, score in zip(starts, lengths, labels, scores, strict=True)
        ]
    return detections, builder.build()


def tasks(path: Path, detections: Mapping[str, list[Detection]], dataset: Dataset) -> dict[str, Callable[[], object]]:
    """Tasks to time, by name; the first one writes the file of the others."""
    written = partial(write, path, detections, {video.id: video.duration for video in dataset.videos.values()})
    written()
    return {"written": written, "checked": partial(check, path, dataset), "loaded": partial(load, path)}


def write(path: Path, detections: Mapping[str, list[Detection]], durations: Mapping[str, float | None]) -> None:
    """Write the file of a submission."""
    with path.open("wb") as file:
        head = submission_head("hacs", NO_EXTERNAL_DATA, False)
        write_submission(file, head, submission_results(detections, "hacs", durations))


def check(path: Path, dataset: Dataset) -> None:
    """Refuse to time a check that finds errors.

    Raises:
        ValueError: when the file would be refused.
    """
    outcome = check_submission(path, "hacs", dataset, "testing")
    if not outcome.ok:
        raise ValueError(f"the submission would be refused: {outcome.errors[0]}")


def load(path: Path) -> Any:
    """Load the whole JSON value."""
    with path.open(encoding="utf-8") as file:
        return json.load(file)


def peak(way: str, path: Path, annotations: Path) -> int:
    """Peak memory in MiB of a separate process that checks or loads the file."""
    command = [sys.executable, "-m", "benchmarks.submission", "--peak", way, str(path), str(annotations)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def alone(way: str, path: Path, annotations: Path) -> None:
    """Check or load the file and print the peak memory of this process in MiB."""
    if way == "checked":
        check(path, read_annotations(annotations))
    else:
        load(path)
    # getrusage would return the parent's peak if that is larger
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    print(int(line.split()[1]) // 1024)


if __name__ == "__main__":
    main(sys.argv[1:])
