"""ELAN annotation document (EAF 2.8): a tier per class."""

import mimetypes
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from wtal.data.segments import Detection
from wtal.report.export_text import milliseconds, titled
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="ELAN: a tier per class",
    suffix=".eaf",
    lacks="overlaps of one class (joined), times below a millisecond",
    overlaps="classes",
    needs=("file",),
)
_DATE = "1970-01-01T00:00:00+00:00"
"""A fixed date, so that equal detections have equal bytes."""

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv2.8.xsd"
"""Schema, a required attribute: pympi stops without it."""
ET.register_namespace("xsi", "http://www.w3.org/2001/XMLSchema-instance")


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return the document of one video; times in whole milliseconds, label and score as an annotation's value."""
    (video,) = videos
    assert video.file
    root = ET.Element("ANNOTATION_DOCUMENT", AUTHOR="wtal", DATE=_DATE, FORMAT="2.8", VERSION="2.8")
    root.set("{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation", _SCHEMA)
    header = ET.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    kind = mimetypes.guess_type(video.file.name)[0] or "video/*"
    ET.SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=video.file.as_uri(), MIME_TYPE=kind)
    ET.SubElement(header, "PROPERTY", NAME="lastUsedAnnotationId").text = str(len(video.detections))
    slots = _add_times(root, video.detections)
    tiers = {label: ET.SubElement(root, "TIER", TIER_ID=label, LINGUISTIC_TYPE_REF="default-lt") for label in classes}
    for number, (detection, times) in enumerate(zip(video.detections, slots, strict=True), 1):
        _annotate(tiers[detection.label], titled(detection), f"a{number}", times)
    ET.SubElement(
        root, "LINGUISTIC_TYPE", LINGUISTIC_TYPE_ID="default-lt", TIME_ALIGNABLE="true", GRAPHIC_REFERENCES="false"
    )
    ET.indent(root)
    return Sheet(f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, "unicode")}\n')


def _add_times(root: ET.Element, detections: Sequence[Detection]) -> list[tuple[str, str]]:
    """Write all times in order; return the names of the two times of each detection."""
    order = ET.SubElement(root, "TIME_ORDER")
    spans = [milliseconds(detection) for detection in detections]
    names = {time: f"ts{number}" for number, time in enumerate(sorted({time for span in spans for time in span}), 1)}
    for time, name in names.items():
        ET.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=name, TIME_VALUE=str(time))
    return [(names[start], names[end]) for start, end in spans]


def _annotate(tier: ET.Element, text: str, name: str, times: tuple[str, str]) -> None:
    facts = {"ANNOTATION_ID": name, "TIME_SLOT_REF1": times[0], "TIME_SLOT_REF2": times[1]}
    entry = ET.SubElement(ET.SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", facts)
    ET.SubElement(entry, "ANNOTATION_VALUE").text = text
