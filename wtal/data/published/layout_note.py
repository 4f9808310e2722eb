"""Note written next to exported features: `wtal.json`, with id, grid and streams of every video.

Other programs ignore it; an import of the folder restores the whole store with it. Published sets have none, and use
the rate of their layout.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from wtal.config import Record
from wtal.data.files import write_json
from wtal.data.grid import SnippetGrid
from wtal.data.parsing.json_keys import checked, read_values
from wtal.data.store.index import StreamName, Weights
from wtal.errors import FormatError

NOTE = "wtal.json"
FORMAT, VERSION = "wtal exported features", 1
_WAY_OUT = "export the features again"


class _Stream(Record):
    """JSON form of a stream."""

    name: StreamName
    dim: int = Field(ge=1, lt=2**31)
    dtype: Literal["float16", "float32"]


class _Video(Record):
    """JSON form of a video."""

    id: str
    grid: dict[str, Any]
    rows_crc32: dict[str, int] = Field(default_factory=dict)


class _Content(Record):
    """JSON form of a note."""

    format: str
    version: int
    layout: str
    backbone: str
    weights: Weights
    streams: list[_Stream]
    videos: dict[str, _Video]
    content: str = ""


@dataclass(frozen=True)
class Note:
    """Content of `wtal.json`: layout, backbone, weights, stream -> (D, type) in order, name -> (id, grid).

    `checksums` are name -> stream -> CRC-32 of the rows, and `content` is a digest of all rows; empty in older notes.
    """

    layout: str
    backbone: str
    weights: dict[str, Any]
    streams: dict[str, tuple[int, str]]
    videos: dict[str, tuple[str, SnippetGrid]] = field(default_factory=dict)
    content: str = ""
    checksums: dict[str, dict[str, int]] = field(default_factory=dict, compare=False)

    @classmethod
    def read(cls, folder: Path) -> "Note | None":
        """Read the note in a folder, or in the folder of a file; None if there is none.

        Raises:
            FormatError: when it is damaged or of another version.
        """
        path = (folder if folder.is_dir() else folder.parent) / NOTE
        if not path.is_file():
            return None
        values = read_values(path, _WAY_OUT, FormatError)
        if not isinstance(values, dict) or (values.get("format"), values.get("version")) != (FORMAT, VERSION):
            raise FormatError(f"{path} is not a note that this version of wtal reads; {_WAY_OUT}")
        content = checked(path, values, _Content, _WAY_OUT, FormatError)
        try:
            videos = {name: (video.id, SnippetGrid.from_json(video.grid)) for name, video in content.videos.items()}
        except FormatError as error:
            raise FormatError(f"{path} is damaged ({error}); {_WAY_OUT}") from None
        if len({video for video, _ in videos.values()}) < len(videos):
            raise FormatError(f"{path} is damaged (two videos have the same id); {_WAY_OUT}")
        streams = {stream.name: (stream.dim, str(stream.dtype)) for stream in content.streams}
        checksums = {name: video.rows_crc32 for name, video in content.videos.items()}
        return cls(content.layout, content.backbone, content.weights, streams, videos, content.content, checksums)

    def write(self, folder: Path) -> None:
        """Publish the note in a folder."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "layout": self.layout,
            "backbone": self.backbone,
            "content": self.content,
            "weights": self.weights,
            "streams": [{"name": name, "dim": dim, "dtype": dtype} for name, (dim, dtype) in self.streams.items()],
            "videos": {name: self._video(name) for name in self.videos},
        }
        write_json(folder / NOTE, content, indent=1)

    def _video(self, name: str) -> dict[str, Any]:
        video, grid = self.videos[name]
        checksums = self.checksums.get(name)
        return {"id": video, "grid": grid.to_json(), **({"rows_crc32": checksums} if checksums else {})}
