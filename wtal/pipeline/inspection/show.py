"""Describe stores, runs and files, as JSON types and as text."""

from pathlib import Path
from typing import Any

from wtal.data.annotations import read_annotations
from wtal.data.detections import COLUMNS, read_detections
from wtal.data.files import read_head
from wtal.data.kinds import ANNOTATIONS, DETECTIONS, JSON, LABELS, detections_in, kind_of
from wtal.data.parsing.table import is_table
from wtal.data.regular import require_regular
from wtal.data.store import FeatureStore
from wtal.data.store import describe as describe_store
from wtal.data.video_ids import is_video_name
from wtal.errors import FormatError, UsageError
from wtal.eval.label_check import LabelCheck
from wtal.pipeline.exchange.packed_model import is_packed
from wtal.pipeline.inspection.own_settings import (
    Origin,
    all_lines,
    head_line,
    origin_of,
    second_stage_lines,
    section_lines,
)
from wtal.pipeline.inspection.show_model import describe_packed, packed_text
from wtal.pipeline.runs import holds_run, open_runs
from wtal.pipeline.stamps import weights_of


def describe(source: Path) -> dict[str, Any]:
    """Describe a store, a run, a packed model, an annotation file, a detection file or a video.

    Raises:
        UsageError: when nothing exists there, or nothing that can be described.
        FormatError: when a packed model is damaged or newer.
    """
    if not source.exists():
        raise UsageError(f"{source} does not exist; pass a store, a run or a file")
    require_regular(source)
    source = detections_in(source)
    if (source / "index.json").is_file():
        return {"kind": "store", **describe_store(FeatureStore.open(source))}
    if source.is_dir() and holds_run(source):
        return {"kind": "run", "path": str(source), "seeds": [run.to_json() for run in open_runs(source)]}
    if is_video_name(source) and not source.is_dir():
        return _video(source)
    if is_packed(source):
        return describe_packed(source)
    try:
        return _detections(source) if _holds_detections(source) else _annotations(source)
    except FormatError as error:
        kind = kind_of(source)
        if kind in (ANNOTATIONS, DETECTIONS, LABELS):
            raise UsageError(str(error)) from None
        reason = f": {error}" if kind == JSON else ""
        raise UsageError(
            f"{source}: wanted a store, run, packed model, annotation file, detection file or video, got {kind}{reason}"
        ) from None


def _holds_detections(path: Path) -> bool:
    head = read_head(path)
    return is_table(path, COLUMNS) or ('"results"' in head and '"database"' not in head)


def _annotations(path: Path) -> dict[str, Any]:
    dataset = read_annotations(path)
    return {
        "kind": "annotations",
        "path": str(path),
        "videos": len(dataset.videos),
        "subsets": dataset.subsets,
        "classes": list(dataset.classes),
        "segments": sum(len(video.annotations) for video in dataset.videos.values()),
        "notes": list(dataset.notes),
    }


def _detections(path: Path) -> dict[str, Any]:
    videos = read_detections(path)
    labels = sorted({detection.label for video in videos.values() for detection in video})
    count = sum(len(video) for video in videos.values())
    return {"kind": "detections", "path": str(path), "videos": len(videos), "detections": count, "classes": labels}


def _video(path: Path) -> dict[str, Any]:
    from wtal.extractors.decoding.probe import probe

    info = probe(path)
    names = (
        "container",
        "codec",
        "pixel_format",
        "width",
        "height",
        "rotation",
        "mirrored",
        "rate",
        "start",
        "duration",
        "frames",
    )
    values = {
        name: getattr(info, name) for name in (*names, "stream", "video_streams", "edited", "reassembled", "file_start")
    }
    plain = {name: value if isinstance(value, int | str | None) else str(value) for name, value in values.items()}
    return {"kind": "video", "path": str(path), **plain}


def to_text(described: dict[str, Any], everything: bool = False) -> str:
    """Format a description as text: totals first, then one line per video with its oddities.

    For a run, the settings that differ from its recipe's, or `everything`.
    """
    if described["kind"] == "store":
        return _store_text(described)
    if described["kind"] == "packed model":
        return packed_text(described)
    if described["kind"] == "run":
        return "\n\n".join(_run_text(seed, everything) for seed in described["seeds"])
    lines = []
    for key, value in described.items():
        text = value if not isinstance(value, dict | list) else _short(value)
        lines.append(f"{key:<14} {text}")
    return "\n".join(lines)


def _short(value: dict[str, Any] | list[Any]) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_short(part) if isinstance(part, dict) else part}" for key, part in value.items())
    return "; ".join(_short(part) if isinstance(part, dict) else str(part) for part in value) or "none"


def _run_text(seed: dict[str, Any], everything: bool) -> str:
    recipe, rules = seed["recipe"], seed["recipe"]["evaluate"]
    origin = origin_of(recipe)
    lines = [
        f"run        {seed['path']} ({'finished' if seed['finished'] else 'not finished'})",
        *_titled(seed, origin),
        origin.heading(),
        *_answering(seed, origin),
        f"features   {seed['features'].get('backbone', '?')}, {seed['store']}",
        f"weights    {', '.join(f'{name}: {weights}' for name, weights in weights_of(seed['features']).items())}",
        f"labels     {seed['annotations']}, {len(seed['classes'])} classes",
        f"subsets    trained on {rules['train_subset']!r}, reported on {rules['test_subset']!r}",
        f"chosen on  {rules['select_subset'] or 'nothing: the last step'}",
        *section_lines(recipe, origin),
    ]
    if seed["tuned_with_segments"]:
        lines.append("tuned with segments")
    if "label_check" in seed:
        lines += [f"check      {line}" for line in LabelCheck.from_json(seed["label_check"]).sentences()]
    return "\n".join([*lines, *(all_lines(recipe) if everything else ())])


def _titled(seed: dict[str, Any], origin: Origin) -> list[str]:
    """Return a line with the name of the recipe, if it is an included one, and its title; none for an ensemble."""
    names = [name for name in (origin.name, seed["recipe"].get("title")) if name]
    return [f"recipe     {', '.join(names)}"] if names and "ensemble" not in seed else []


def _answering(seed: dict[str, Any], origin: Origin) -> list[str]:
    """Return lines on the model: a head, an ensemble's members, or a second stage and its teacher."""
    recipe = seed["recipe"]
    if "refined" in seed:
        return [*second_stage_lines(recipe["refine"], origin), f"teacher    {seed['refined']['teacher']}"]
    if "ensemble" in seed:
        return _members(seed["ensemble"])
    return [head_line(recipe, origin)]


def _members(joined: dict[str, Any]) -> list[str]:
    members = joined["members"]
    return [
        f"ensemble   of {len(members)}, by {joined['by']}",
        *(f"  {member['weight']:.3f} of {member['head']}, {member['run']}" for member in members),
    ]


def _checksums(videos: int, unchecked: int) -> str:
    if not unchecked:
        return "of all videos; wtal verify compares them" if videos else "none yet"
    which = "none" if unchecked == videos else f"of {videos - unchecked} of {videos} videos"
    return f"{which}; an earlier version wrote the store, and damage to its numbers would not be noticed"


def _store_text(described: dict[str, Any]) -> str:
    streams = ", ".join(f"{name} {stream['dim']}-d {stream['dtype']}" for name, stream in described["streams"].items())
    readers = ", ".join(f"{name} {count}" for name, count in described["readers"].items())
    lines = [
        f"store      {described['path']}",
        f"identity   {described['identity'].get('backbone', '?')}, digest {described['digest']}",
        f"weights    {', '.join(f'{k}: {v}' for k, v in weights_of(described['identity']).items()) or 'none'}",
        f"streams    {streams or 'none yet'}",
        f"videos     {described['num_videos']} ({described['seconds']:.1f} s, {described['snippets']} snippets, "
        f"{described['bytes'] / 2**20:.1f} MiB)",
        f"checksums  {_checksums(described['num_videos'], described['unchecked'])}",
        f"readers    {readers or 'none yet'}",
        f"failures   {len(described['failures'])}",
    ]
    lines += [f"  failed {name}: {reason}" for name, reason in described["failures"].items()]
    lines += [
        f"  {name}: {video['snippets']} snippets, {video['seconds']:.2f} s, {video['reader']}"
        + "".join(f"; {note}" for note in video["notes"])
        for name, video in described["videos"].items()
    ]
    return "\n".join(lines)
