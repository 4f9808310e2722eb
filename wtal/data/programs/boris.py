"""Observations of BORIS, from a project (`.boris`) or from its export of aggregated events as a table.

A state event of a project is two rows of the same code, subject and modifiers: its start and its stop. Times are
seconds in the player, as displayed by BORIS.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wtal.data.detections import is_number
from wtal.data.files import read_head, read_json
from wtal.data.parsing.table import Table, is_table, read_table
from wtal.data.programs.json_types import entries, members
from wtal.data.segments import Annotation
from wtal.errors import FormatError

_COLUMNS = ("observation id", "behavior", "start (s)", "stop (s)")
_FILE_COLUMNS = ("media file name", "media file")
_LENGTH_COLUMNS = ("media duration (s)", "total length")
_PLAYER = re.compile(r"^player #\d+\s*:\s*", re.IGNORECASE)
_POINT = "point"


@dataclass
class Observation:
    """An observation: its name, the path of its media file, the duration if known to BORIS, and the coded events.

    `points` are the codes of events without a length. `unpaired` counts events with a start but no stop.
    """

    name: str
    media: str
    duration: float | None = None
    states: list[Annotation] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    unpaired: int = 0


def is_project(path: Path) -> bool:
    """Return True if a file looks like a project."""
    head = read_head(path)
    return head.lstrip()[:1] == "{" and all(f'"{key}"' in head for key in ("behaviors_conf", "project_format_version"))


def is_aggregated(path: Path) -> bool:
    """Return True if a file is a table of aggregated events."""
    return is_table(path, _COLUMNS)


def read_observations(path: Path) -> list[Observation]:
    """Read observations of one media file each; live ones and those of several files are refused.

    Raises:
        FormatError: when an observation or a line is not in BORIS's form, naming it.
    """
    return list(_of_table(path) if is_aggregated(path) else _of_project(path))


def _of_project(path: Path) -> Iterator[Observation]:
    content = members(read_json(path), f"{path}")
    kinds = {}
    for behaviour in members(content.get("behaviors_conf", {}), f"{path}: behaviors_conf").values():
        entry = members(behaviour, f"{path}: behaviors_conf")
        kinds[_text(entry.get("code"), f"{path}: behaviors_conf: code")] = str(entry.get("type", ""))
    for name, value in members(content.get("observations"), f"{path}: observations").items():
        where = f"{path}: observation {name!r}"
        yield _observation(name, members(value, where), kinds, where)


def _observation(name: str, value: Mapping[str, Any], kinds: Mapping[str, str], where: str) -> Observation:
    players = members(value.get("file", {}), f"{where}: file")
    media = [file for files in players.values() for file in entries(files, f"{where}: file")]
    if len(media) != 1:
        raise FormatError(f"{where}: wanted one media file, got {len(media)}; make one observation per file")
    if value.get("time offset", 0):
        raise FormatError(f"{where} has a time offset of {value['time offset']!r} s; set it to 0 in BORIS")
    about = members(value.get("media_info", {}), f"{where}: media_info")
    length = members(about.get("length", {}), f"{where}: media_info.length").get(media[0])
    duration = float(length) if is_number(length) and length is not None else None
    observation = Observation(name, _text(media[0], f"{where}: file"), duration)
    starts: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for number, row in enumerate(entries(value.get("events", []), f"{where}: events")):
        event = f"{where}: event {number}"
        if not (isinstance(row, list) and len(row) >= 3 and is_number(row[0])):
            raise FormatError(f"{event}: wanted [time, subject, code, ...], got {row!r}")
        code = _text(row[2], f"{event}: code")
        if _POINT in kinds.get(code, "").lower():
            observation.points.append(code)
            continue
        starts[code, str(row[1]), str(row[3]) if len(row) > 3 else ""].append(float(row[0]))
    for (code, *_), times in starts.items():
        times.sort()
        observation.states += [Annotation(*pair, code) for pair in zip(times[::2], times[1::2], strict=False)]
        observation.unpaired += len(times) % 2
    observation.states.sort(key=lambda state: (state.start, state.end, state.label))
    return observation


def _of_table(path: Path) -> list[Observation]:
    table = read_table(path, _COLUMNS)
    file = next((name for name in _FILE_COLUMNS if name in table.columns), "")
    observations: dict[str, Observation] = {}
    for line, row in table.rows:
        where = f"{path}: line {line}"
        name = row["observation id"]
        media = _PLAYER.sub("", row.get(file, "")) or name
        if not name or not row["behavior"]:
            raise FormatError(f"{where}: wanted an observation and a behavior, got {name!r} and {row['behavior']!r}")
        observation = observations.setdefault(name, Observation(name, media, _length(table, row, where)))
        if observation.media != media:
            raise FormatError(f"{where}: observation {name!r} has several media files; make one observation per file")
        _add(observation, table, row, where)
    return list(observations.values())


def _add(observation: Observation, table: Table, row: Mapping[str, str], where: str) -> None:
    if row.get("behavior type", "").lower() == _POINT:
        observation.points.append(row["behavior"])
        return
    start, end = (table.number(row[name], f"{where}: {name}") for name in _COLUMNS[2:])
    try:
        observation.states.append(Annotation(start, end, row["behavior"]))
    except ValueError as error:
        raise FormatError(f"{where}: {error}") from None


def _length(table: Table, row: Mapping[str, str], where: str) -> float | None:
    for name in _LENGTH_COLUMNS:
        if cell := row.get(name, ""):
            value = table.number(cell, f"{where}: {name}") if cell.lower() not in ("na", "none") else 0.0
            return value if 0 < value < float("inf") else None
    return None


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise FormatError(f"{where}: wanted a string, got {value!r}")
    return value
