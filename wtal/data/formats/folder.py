"""A folder with one sub-folder per class: each video shows the class of its sub-folder.

Videos in a sub-folder named `none`, `background` or `negative` show no class: known negatives.

The id of a video is its file name without the extension. Videos of the same name in several sub-folders are different
videos, and their ids include the sub-folder: `run/001`. All are in the subset `training`. Hidden files and folders are
skipped; files other than videos, and videos next to or further below the sub-folders, are counted and reported.
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
    """Return True for a folder with a video in a sub-folder."""
    return path.is_dir() and any(is_video_file(file) for folder in _folders(path) for file in _entries(folder))


def read(path: Path) -> Dataset:
    """Read a folder of sub-folders.

    Raises:
        FormatError: when there is no folder, or no video in its sub-folders.
    """
    if not path.is_dir():
        raise FormatError(f"{path}: wanted a folder with one sub-folder per class; it is not a folder")
    root, builder = path.absolute(), DatasetBuilder()
    files = [file for folder in _folders(root) for file in _entries(folder)]
    labelled = [file for file in files if is_video_file(file)]
    if not labelled:
        raise FormatError(f"{path}: wanted one sub-folder of videos per class; no sub-folder contains a video")
    # Names of videos without a label are compared, too: a search for videos below this folder includes them.
    ids = short_ids(dict.fromkeys([*labelled, *videos_below(root)], root))
    for file in labelled:
        builder.add_video(ids[file], DEFAULT_SUBSET)
        if file.parent.name.lower() not in NEGATIVE:
            builder.add_label(ids[file], readable(file.parent.name))
        if ids[file] != readable(file.stem):
            builder.note("videos that share their name, so that their id includes the folder", ids[file])
    for file in files:
        if file not in ids and file.is_file():
            builder.note("files other than videos, skipped", readable(file.relative_to(root).as_posix()))
    for file in sorted(ids.keys() - set(labelled)):
        where = "next to" if file.parent == root else "further below"
        builder.note(f"unlabelled videos {where} the sub-folders, skipped", ids[file])
    return builder.build()


def _folders(path: Path) -> Iterator[Path]:
    return (entry for entry in _entries(path) if entry.is_dir())


def _entries(path: Path) -> Iterator[Path]:
    return (entry for entry in sorted(path.iterdir()) if not entry.name.startswith("."))
