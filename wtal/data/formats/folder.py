"""A folder with one sub-folder a class: each video in it shows the class of its sub-folder.

The id of a video is its file name without the ending. A video of the same name in two sub-folders is one video with
two labels. All are in the subset `training`. Hidden files and folders are passed over; other files than videos, and
videos beside the sub-folders, are counted and reported.
"""

from collections.abc import Iterator
from pathlib import Path

from wtal.data.assemble import VIDEO_SUFFIXES, DatasetBuilder
from wtal.data.dataset import Dataset
from wtal.errors import FormatError

DEFAULT_SUBSET = "training"


def sniff(path: Path) -> bool:
    """Whether it is a folder with a video in a sub-folder."""
    return path.is_dir() and any(_is_video(file) for folder in _folders(path) for file in _files(folder))


def read(path: Path) -> Dataset:
    """Read such a folder.

    Raises:
        FormatError: when there is no folder, or no video in its sub-folders.
    """
    if not path.is_dir():
        raise FormatError(f"{path}: wanted a folder with one sub-folder a class; there is no folder")
    builder, places = DatasetBuilder(), dict[str, list[str]]()
    for folder in _folders(path):
        for file in _files(folder):
            if _is_video(file):
                builder.add_video(file.stem, DEFAULT_SUBSET)
                builder.add_label(file.stem, folder.name)
                places.setdefault(file.stem, []).append(f"{folder.name}/{file.name}")
            else:
                builder.note("files that are no videos, passed over", f"{folder.name}/{file.name}")
    for names in places.values():
        if len(names) > 1:
            builder.note("videos of one name in several places, taken for one video", " = ".join(names))
    for file in _files(path):
        if _is_video(file):
            builder.note("videos beside the sub-folders, without a label and passed over", file.name)
    if not places:
        raise FormatError(f"{path}: wanted sub-folders with videos, one a class; there is no video in them")
    return builder.build()


def _folders(path: Path) -> Iterator[Path]:
    return (entry for entry in sorted(path.iterdir()) if entry.is_dir() and not entry.name.startswith("."))


def _files(path: Path) -> Iterator[Path]:
    return (entry for entry in sorted(path.iterdir()) if entry.is_file() and not entry.name.startswith("."))


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES
