"""A folder with one sub-folder per class: each video in it shows the class of its sub-folder.

Videos in a sub-folder called `none`, `background` or `negative` show no class: known negatives.

The id of a video is its file name without the ending. Videos of one name in several sub-folders are several videos,
and their ids have the sub-folder too: `run/001`. All are in the subset `training`. Hidden files and folders are passed
over; other files than videos, and videos beside or further below the sub-folders, are counted and reported.
"""

from collections.abc import Iterator
from pathlib import Path

from wtal.data.assemble import DatasetBuilder
from wtal.data.dataset import Dataset
from wtal.data.video_ids import is_video_file, readable, short_ids, videos_below
from wtal.errors import FormatError

DEFAULT_SUBSET = "training"
NEGATIVE = frozenset({"none", "background", "negative", "negatives"})
"""Names of sub-folders, in lower case, whose videos show no class."""


def sniff(path: Path) -> bool:
    """Return whether it is a folder with a video in a sub-folder."""
    return path.is_dir() and any(is_video_file(file) for folder in _folders(path) for file in _entries(folder))


def read(path: Path) -> Dataset:
    """Read such a folder.

    Raises:
        FormatError: when there is no folder, or no video in its sub-folders.
    """
    if not path.is_dir():
        raise FormatError(f"{path}: wanted a folder with one sub-folder a class; there is no folder")
    root, builder = path.absolute(), DatasetBuilder()
    files = [file for folder in _folders(root) for file in _entries(folder)]
    shown = [file for file in files if is_video_file(file)]
    if not shown:
        raise FormatError(f"{path}: wanted sub-folders with videos, one a class; there is no video in them")
    # Videos without a label count too where names are compared: a search for videos below this folder finds them.
    ids = short_ids(dict.fromkeys([*shown, *videos_below(root)], root))
    for file in shown:
        builder.add_video(ids[file], DEFAULT_SUBSET)
        if file.parent.name.lower() not in NEGATIVE:
            builder.add_label(ids[file], readable(file.parent.name))
        if ids[file] != readable(file.stem):
            builder.note("videos whose name others have too, so that their id has the folder", ids[file])
    for file in files:
        if file not in ids and file.is_file():
            builder.note("files that are no videos, passed over", readable(file.relative_to(root).as_posix()))
    for file in sorted(ids.keys() - set(shown)):
        where = "beside" if file.parent == root else "further below"
        builder.note(f"videos {where} the sub-folders, without a label and passed over", ids[file])
    return builder.build()


def _folders(path: Path) -> Iterator[Path]:
    return (entry for entry in _entries(path) if entry.is_dir())


def _entries(path: Path) -> Iterator[Path]:
    return (entry for entry in sorted(path.iterdir()) if not entry.name.startswith("."))
