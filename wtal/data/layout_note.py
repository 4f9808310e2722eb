"""Note that the exporter of features leaves beside them: `wtal.json`, with id, grid and streams of every video.

Other programs pass it over; an import of the folder has all of the store back by it. Published sets have none, and get
the rate of their layout.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wtal.data.files import read_json, write_json
from wtal.data.grid import SnippetGrid
from wtal.errors import FormatError

NOTE = "wtal.json"
FORMAT, VERSION = "wtal exported features", 1


@dataclass(frozen=True)
class Note:
    """Content of `wtal.json`: layout, backbone, weights, stream -> (D, type) in order, name -> (id, grid).

    `content` is a digest of all rows; empty in older notes.
    """

    layout: str
    backbone: str
    weights: dict[str, Any]
    streams: dict[str, tuple[int, str]]
    videos: dict[str, tuple[str, SnippetGrid]] = field(default_factory=dict)
    content: str = ""

    @classmethod
    def read(cls, folder: Path) -> "Note | None":
        """The note in a folder, or beside a file; None where there is none.

        Raises:
            FormatError: when it is damaged or of another version.
        """
        path = (folder if folder.is_dir() else folder.parent) / NOTE
        if not path.is_file():
            return None
        content = read_json(path)
        if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
            raise FormatError(f"{path} is no note of exported features that this wtal reads; export them again")
        try:
            streams = {stream["name"]: (int(stream["dim"]), str(stream["dtype"])) for stream in content["streams"]}
            videos = {k: (str(v["id"]), SnippetGrid.from_json(v["grid"])) for k, v in content["videos"].items()}
            if len({video for video, _ in videos.values()}) < len(videos):
                raise ValueError("two videos have one id")
            if not {dtype for _, dtype in streams.values()} <= {"float16", "float32"}:
                raise ValueError("features are float16 or float32")
            weights, rows = dict(content["weights"]), str(content.get("content", ""))
            return cls(content["layout"], content["backbone"], weights, streams, videos, rows)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{path} is damaged ({error}); export the features again") from None

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
            "videos": {name: {"id": video, "grid": grid.to_json()} for name, (video, grid) in self.videos.items()},
        }
        write_json(folder / NOTE, content, indent=1)
