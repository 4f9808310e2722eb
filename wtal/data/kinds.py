"""Recognize the kind of a file or folder from names and first bytes, so that an error can say what it got."""

from collections.abc import Collection
from pathlib import Path

from wtal.data.files import read_head
from wtal.data.parsing.table import is_table
from wtal.data.regular import is_pipe, require_regular
from wtal.data.video_ids import is_video_name, videos_below
from wtal.errors import UsageError, WrongKindError

STORE = "a feature store"
RUN = "a run"
FOUND = "a folder of wtal detect"
FEATURES = "exported features"
WORKSPACE = "a workspace"
VIDEOS = "a folder of videos"
EMPTY_FOLDER = "an empty folder"
FOLDER = "a folder of other files"
EMPTY = "an empty file"
PIPE = "a pipe or a device"
VIDEO = "a video"
PICTURE = "a picture"
MODEL = "a packed model"
CHECKPOINT = "a checkpoint"
ARRAY = "a numpy array"
ANNOTATIONS = "annotations"
DETECTIONS = "detections"
VERDICTS = "verdicts"
LABELS = "a table of labels"
RECIPE = "a recipe"
JSON = "JSON of another kind"
BINARY = "a binary file"
TEXT = "plain text"

OF_TEXT = (ANNOTATIONS, DETECTIONS, VERDICTS, LABELS, RECIPE, JSON, TEXT)
"""Kinds of files with text of any form."""
RUN_RECORD = "run.json"
"""Name of the file that makes a folder a run."""
DETECTION_FILE = "detections.json"
"""Name of the file of detections in a folder of `wtal detect`."""
_PICTURES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_CHECKPOINTS = frozenset({".ckpt", ".pt", ".pth", ".safetensors"})
_HEAD = 1 << 16
"""Number of bytes read from the start of a file."""
_DETECTION_COLUMNS = ("video", "label", "start", "end", "score")
_FOLDERS = {
    STORE: "wtal train --store {path} trains a run on it",
    FOUND: f"its detections are {{path}}/{DETECTION_FILE}",
    FEATURES: "wtal import-features {path} makes a feature store of them",
    WORKSPACE: "its runs are in {path}/runs",
    VIDEOS: "wtal detect RUN {path} finds actions in them",
}
_FILES = {
    VIDEO: "wtal detect RUN {path} finds actions in it",
    MODEL: "wtal detect {path} VIDEO writes detections with it",
    CHECKPOINT: "pass the folder of its run",
    LABELS: "wtal run VIDEOS --labels {path} trains on it and writes detections",
    RECIPE: "wtal train {path} trains a run",
}
"""Kind -> advice for getting from such a path to a run or to detections."""


def kind_of(path: Path) -> str:
    """Return the kind of a file or folder, as a noun phrase with its article."""
    if is_pipe(path):
        return PIPE
    return _kind_of_folder(path) if path.is_dir() else _kind_of_file(path)


def _kind_of_folder(folder: Path) -> str:
    names = {entry.name for entry in folder.iterdir()}
    if "index.json" in names:
        return STORE
    if RUN_RECORD in names or any(folder.glob(f"seed-*/{RUN_RECORD}")):
        return RUN
    if DETECTION_FILE in names:
        return FOUND
    if "wtal.json" in names:
        return FEATURES
    if {"runs", "features"} & names:
        return WORKSPACE
    if not names:
        return EMPTY_FOLDER
    return VIDEOS if videos_below(folder) else FOLDER


def _kind_of_file(file: Path) -> str:
    suffix, head = file.suffix.lower(), read_head(file, _HEAD)
    named = {**dict.fromkeys(_PICTURES, PICTURE), **dict.fromkeys(_CHECKPOINTS, CHECKPOINT), ".wtal": MODEL}
    if not head:
        return EMPTY
    if "NUMPY" in head[:8] or suffix in (".npy", ".npz"):
        return ARRAY
    if "\0" in head:
        return VIDEO if is_video_name(file) else named.get(suffix, BINARY)
    if is_video_name(file) or suffix in named:
        return VIDEO if is_video_name(file) else named[suffix]
    in_json = head.lstrip()[:1] in "{[" and suffix != ".toml"
    return _kind_of_json(head) if in_json else _kind_of_text(file)


def _kind_of_json(head: str) -> str:
    for key, kind in (("database", ANNOTATIONS), ("results", DETECTIONS), ("looked_at", VERDICTS)):
        if f'"{key}"' in head:
            return kind
    return JSON


def _kind_of_text(file: Path) -> str:
    if is_table(file, _DETECTION_COLUMNS):
        return DETECTIONS
    if is_table(file, ("video", "label")):
        return LABELS
    return RECIPE if file.suffix.lower() == ".toml" else TEXT


def detections_in(path: Path) -> Path:
    """Return the detection file of a folder of `wtal detect`, or else the path itself."""
    return path / DETECTION_FILE if path.is_dir() and kind_of(path) == FOUND else path


def require_detections(file: Path) -> None:
    """Refuse a file that cannot hold detections; JSON of other content is left to its reader.

    Raises:
        WrongKindError: naming the kind that came, and what to do with it.
    """
    if file.name == RUN_RECORD and kind_of(file) == JSON:
        raise WrongKindError(f"{file}: wanted detections, got a run's record; pass its folder")
    require_kind(file, "a run or a detection file", (DETECTIONS, ANNOTATIONS, VERDICTS, JSON))


def require_model(file: Path) -> None:
    """Refuse a file that cannot be a packed model; archives of any name are left to its reader.

    Raises:
        WrongKindError: naming the kind that came.
    """
    advice = "name it after the run: wtal detect RUN VIDEO" if kind_of(file) == VIDEO else None
    require_kind(file, "a run or a packed model", (MODEL, BINARY), advice)


def no_run(path: Path) -> UsageError:
    """Return the error for a path without a run: its kind, and what to do.

    Raises:
        WrongKindError: when it is a pipe or a device.
    """
    require_regular(path)
    if path.is_file():
        return WrongKindError(f"{path} is not a run, but {kind_of(path)}; pass a run's folder")
    kind = kind_of(path) if path.is_dir() else FOLDER
    if kind in _FOLDERS:
        return WrongKindError(f"{path} is not a run, but {kind}; {_FOLDERS[kind].format(path=path)}")
    if not path.exists() and path.suffix == ".wtal":
        return UsageError(f"{path} does not exist; pass a run's folder or a file from `wtal pack`")
    wait = "if its training has just started, wait until it has read its data"
    if not path.exists():
        return UsageError(f"{path} does not exist; pass a run's folder; {wait}")
    return UsageError(f"{path} is not a run: it holds neither {RUN_RECORD} nor seed-*/{RUN_RECORD}; {wait}")


def require_kind(path: Path, wanted: str, kinds: Collection[str], advice: str | None = None) -> None:
    """Refuse a path whose kind is not among `kinds`; `wanted` names them in the error, and `advice` says what to do.

    Raises:
        WrongKindError: naming the kind that came, and what to do with it.
    """
    require_regular(path)
    kind = kind_of(path)
    if kind not in kinds:
        todo = (_FOLDERS | _FILES).get(kind, "").format(path=path) if advice is None else advice
        raise WrongKindError(f"{path}: wanted {wanted}, got {kind}{f'; {todo}' if todo else ''}")
