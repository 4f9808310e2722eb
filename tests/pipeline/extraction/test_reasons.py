"""Tables of reasons against the source: none is missing, none is stale, and each has one kind."""

import ast
from pathlib import Path

import pytest

from wtal.data.regular import NOT_REGULAR
from wtal.pipeline.extraction import reasons
from wtal.pipeline.extraction.reasons import NOTES, REASONS, Reason, failure_kinds, kind_of

ROOT = Path(reasons.__file__).parents[2]
TABLES = {reason.text for table in REASONS.values() for reason in table}
DECODING = [
    path
    for folder in ("extractors", "pipeline/extraction")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.parent.name != "demo" and path != Path(reasons.__file__)
]
IMPORTING = [ROOT / "pipeline/exchange/import_features.py", ROOT / "data/published/row_clock.py"]


def template(node: ast.expr) -> str | None:
    """Text in the source with `...` for inserted values; None if a node is not a text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
        return "".join(parts).replace("......", "...").replace("... ...", "...")
    return None


def texts(paths: list[Path], errors: set[str]) -> set[str]:
    """Texts of errors with these names."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if name in errors and node.args and (text := template(node.args[0])):
                found.add(text)
    return found


def yields(path: Path, function: str) -> set[str]:
    """Texts that a function yields or returns."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    body = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function)
    nodes = [node.value for node in ast.walk(body) if isinstance(node, ast.Yield | ast.Return) and node.value]
    nodes = [part for node in nodes for part in ([node.left] if isinstance(node, ast.BinOp) else [node])]
    return {text for node in nodes if (text := template(node))}


def test_every_reason_of_the_source_is_in_the_tables_and_no_other():
    decoding = texts(DECODING, {"VideoError", "_lost"}) - {"..."}
    # A process's name is followed by its end.
    ends = {f"... {text}" for text in yields(ROOT / "extractors/decoding/isolated.py", "cause_of_death")}
    importing = texts(IMPORTING, {"FormatError"}) - {"no video could be imported; ..."}
    others = {
        NOT_REGULAR,
        reasons.KILLED,
        reasons.DAMAGED,
        *(text.format("...") for text in (reasons.ANOTHER_FILE, reasons.UNREADABLE)),
    }
    assert decoding | ends | importing | others == TABLES


def test_every_note_of_the_source_is_in_the_table_and_no_other():
    yielded = yields(ROOT / "extractors/decoding/resample.py", "_oddities")
    broken = texts(DECODING, {"VideoBroken"})
    assert len(yielded) > 8
    imported = {
        "one stream had a row more than the other; it was cut",
        "its numbers differ from those that were exported",
    }
    assert yielded | broken | imported == {note.text for note in NOTES}


def test_each_text_stands_once_and_each_note_has_a_kind_of_its_own():
    assert len(TABLES) == sum(map(len, REASONS.values()))
    assert len({note.kind for note in NOTES}) == len(NOTES)
    assert all(note.kind.startswith("videos ") for note in NOTES)


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.kind)
def test_a_note_is_of_its_kind_whatever_stands_for_the_dots(note):
    for filling in ("3", "1.240", "a: b\nc"):
        assert kind_of(note.text.replace("...", filling), NOTES) == note.kind
    assert kind_of(f"{note.text} and more", NOTES) != note.kind or note.text.endswith("...")


def test_failures_are_counted_by_kind_and_an_unknown_one_is_its_own():
    failures = {
        "a": "the file is empty (0 bytes)",
        "b": "not a video that ffmpeg can open: Invalid data",
        "e": "not a video that ffmpeg can open: End of file",
        "f": "no video stream: the file holds audio",
        "c": "the file is empty (0 bytes)",
        "d": "something else",
    }
    assert failure_kinds(failures) == {
        "the file is empty (0 bytes)": ["a", "c"],
        "not a video that ffmpeg can open: ...": ["b", "e"],
        "no video stream: the file holds audio": ["f"],
        "something else": ["d"],
    }
    assert kind_of("x", [Reason("x", "")]) == "x"
