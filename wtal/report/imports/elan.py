"""ELAN annotation document: the annotations of a tier belong to the class in its name.

The document does not record what was looked at.
"""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from wtal.data.files import read_head, read_text
from wtal.errors import FormatError
from wtal.report.imports import Mark, Reviewed, counted, mark


def sniff(path: Path) -> bool:
    """Return whether a file begins like an annotation document."""
    return "<ANNOTATION_DOCUMENT" in read_head(path, 1 << 12)


def read(path: Path) -> Sequence[Reviewed]:
    """Read the video of a document, given by its first media descriptor; times in milliseconds.

    Raises:
        FormatError: when it is not XML, declares entities, or has malformed times or video.
    """
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise FormatError(f"{path}: it declares entities, which ELAN's documents do not")
    try:
        root = ET.fromstring(text.encode())  # bytes: a text must not declare its encoding
    except (ET.ParseError, ValueError) as error:
        raise FormatError(f"{path} is not XML: {error}") from None
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    lacking = {"annotations without a time of their own": 0}
    marks = []
    for tier in root.iter("TIER"):
        lacking["annotations without a time of their own"] += len(tier.findall("ANNOTATION/REF_ANNOTATION"))
        for entry in tier.findall("ANNOTATION/ALIGNABLE_ANNOTATION"):
            ends = [times.get(entry.get(f"TIME_SLOT_REF{number}")) for number in (1, 2)]
            if None in ends:
                lacking["annotations without a time of their own"] += 1
            else:
                marks.append(_mark(ends, tier.get("TIER_ID"), f"{path}: annotation {entry.get('ANNOTATION_ID')}"))
    name, others = _names(root, path)
    return [Reviewed(name, tuple(marks), others, notes=counted(lacking))]


def spelled(labels: Sequence[str]) -> list[str]:
    """Return labels unchanged."""
    return list(labels)


def _mark(ends: Sequence[str | None], label: str | None, where: str) -> Mark:
    start, end = (_milliseconds(value, where) for value in ends)
    return mark(start / 1000, end / 1000, label, where)


def _milliseconds(text: str | None, where: str) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 15:
        raise FormatError(f"{where}: wanted whole milliseconds, got {text!r}")
    return int(text)


def _names(root: ET.Element, path: Path) -> tuple[str, tuple[str, ...]]:
    """Return the path of the video, and alternative names: its relative path, the document's name."""
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    address = "" if media is None else media.get("MEDIA_URL") or media.get("RELATIVE_MEDIA_URL") or ""
    name = unquote(urlsplit(address).path if address.startswith("file:") else address, errors="surrogateescape")
    return name or str(path.with_suffix("")), (str(path.with_suffix("")),)
