"""A folder of a hundred thousand videos, and a store with all of them: seconds until a call resumes.

The videos are hard links to a few files of 64x48 pixels and two seconds, in 200 folders; the store is synthetic, and
its features are a sparse file. `list` finds the videos and assigns their ids. `resume` is `wtal extract` with all of
them in the store; `resume, files known` is a second call, which recognizes the files from the first and reads none of
them. `plan` is `wtal extract --dry-run` with all videos in the store, and `plan new` is the same with `--new` videos
that are not in it, whose headers are read once each. Commands run in separate processes, including their start-up;
`MiB` is the memory of the command, and `processor s` is its processor time plus that of the process that reads videos.

This benchmark is not part of `make bench`.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks._process import growth, run
from benchmarks._report import arguments, report
from benchmarks._scene import moving_frames, write_h264
from benchmarks._turns import short
from wtal.data.store.index import Entry, Index, StreamSpec, shard_name, write_header
from wtal.data.store.writer import file_fingerprint
from wtal.extractors.execution.config import ExtractConfig
from wtal.pipeline.extraction.extract import prepare
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.extraction.trial import grid
from wtal.pipeline.extraction.videos import find_videos
from wtal.pipeline.workspace import Workspace

_BACKBONE = "motion-pyramid"
_FRAMES = 50
_FOLDERS = 200
_LINKS = 25_000
"""Maximum number of hard links per file; file systems bound them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Take all steps at each size, and report how they grow."""
    parser = arguments(__doc__)
    parser.add_argument("--videos", type=int, nargs="+", default=(10_000, 100_000), help="sizes of the folder")
    parser.add_argument("--new", type=int, default=2000, help="number of new videos to plan")
    parser.add_argument("--folder", type=Path, help="where to put the files, which are removed in the end")
    parser.add_argument("--list", type=Path, help="list a folder, and print how many videos it holds")
    options = parser.parse_args(argv)
    if options.list:
        print(len(find_videos([options.list])))
        return
    rows: list[dict[str, Any]] = []
    for count in options.videos:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            rows += measured(Path(folder), count, min(options.new, count))
    report("many_files", rows, growth(rows), options.out)


def measured(folder: Path, count: int, new: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each task on a folder with this many videos."""
    videos, others = folder / "videos", folder / "new"
    link(videos, count, folder)
    link(others, new, folder)
    fill(videos, Workspace(folder / "workspace"))
    extract = ["wtal", "extract", str(videos), "--backbone", _BACKBONE, "--workspace", str(folder / "workspace")]
    anew = ["wtal", "extract", str(others), "--backbone", _BACKBONE, "--workspace", str(folder / "none")]
    for task, number, command in (
        ("list", count, ["benchmarks.many_files", "--list", str(videos)]),
        ("resume", count, extract),
        ("resume, files known", count, extract),
        ("plan", count, [*extract, "--dry-run"]),
        ("plan new", new, [*anew, "--dry-run"]),
    ):
        spent = run([sys.executable, "-m", *command])
        row = {"s": short(spent.seconds), "processor_s": short(spent.processor), "MiB": short(spent.own_mib)}
        yield {"task": task, "size": f"{count} videos", "videos": number, **row}


def link(folder: Path, count: int, files: Path) -> None:
    """Fill a folder with hard links to few videos."""
    for number in range(count):
        file = files / f"of-{folder.name}-{number // _LINKS}.mp4"
        if not file.exists():
            write_h264(file, moving_frames(_FRAMES, 64, 48, number), 64, 48)
        below = folder / f"class-{number % _FOLDERS:03d}"
        below.mkdir(parents=True, exist_ok=True)
        (below / f"video-{number:06d}.mp4").hardlink_to(file)


def fill(videos: Path, workspace: Workspace) -> None:
    """Publish a store that holds the videos of a folder."""
    (extractor,), (store,) = prepare([ExtractConfig(backbone=_BACKBONE)], workspace, (), None, Machine())
    store.mkdir(parents=True)
    clock = grid(extractor, _FRAMES)
    marks: dict[int, str] = {}
    entries: dict[str, Entry] = {}
    for number, video in enumerate(find_videos([videos])):
        inode = video.path.stat().st_ino
        marks[inode] = marks.get(inode) or file_fingerprint(video.path)
        entries[video.id] = Entry(
            grid=clock.to_json(),
            shard=0,
            offset=number * clock.num_snippets,
            rows=clock.num_snippets,
            info={"file": video.path.name, "reader": "pyav", "width": 64, "height": 48},
            fingerprint=marks[inode],
        )
    rows, kind = len(entries) * clock.num_snippets, extractor.config.dtype
    specs = {stream: StreamSpec(dim=backbone.dim, dtype=kind) for stream, backbone in extractor.backbones.items()}
    for stream, spec in specs.items():
        with (store / shard_name(stream, 0)).open("wb") as file:
            write_header(file, rows, spec)
            file.truncate(file.tell() + rows * spec.row_bytes)
    identity = json.loads(json.dumps(extractor.identity))
    Index(identity=identity, streams=specs, shards=(rows,), videos=entries).write(store)


if __name__ == "__main__":
    main(sys.argv[1:])
