"""FCPXML 1.9: detections in sequence, for Final Cut Pro and Resolve."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from fractions import Fraction

from wtal.report.export_text import frame_span, plain, titled
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="Final Cut Pro, Resolve: a reel of one video's detections",
    suffix=".fcpxml",
    lacks="gaps between detections, variable rates; LosslessCut needs at least two clips",
    needs=("file", "rate", "size", "duration"),
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one asset-clip per detection of one video; times are fractions of a second at the edges of frames."""
    (video,) = videos
    assert video.rate
    assert video.size
    assert video.file
    assert video.end is not None
    rate = video.rate
    root = ET.Element("fcpxml", version="1.9")
    resources = ET.SubElement(root, "resources")
    width, height = map(str, video.size)
    ET.SubElement(resources, "format", id="r1", name="wtal", frameDuration=_time(1, rate), width=width, height=height)
    length = _time(max(1, round(Fraction(video.end) * rate)), rate)
    facts = {"hasVideo": "1", "format": "r1", **({"hasAudio": "1"} if video.sound else {})}
    asset = ET.SubElement(resources, "asset", id="r2", name=plain(video.name), start=_time(0, rate), duration=length)
    asset.attrib.update(facts)
    ET.SubElement(asset, "media-rep", kind="original-media", src=video.file.as_uri())
    event = ET.SubElement(ET.SubElement(root, "library"), "event", name="wtal")
    project = ET.SubElement(event, "project", name=plain(video.name))
    spans = [(d, *frame_span(d, rate)) for d in video.detections]
    total = _time(sum(after - first for _, first, after in spans), rate)
    sequence = ET.SubElement(project, "sequence", format="r1", duration=total, tcStart=_time(0, rate), tcFormat="NDF")
    spine, offset = ET.SubElement(sequence, "spine"), 0
    for d, first, after in spans:
        times = {"offset": _time(offset, rate), "start": _time(first, rate), "duration": _time(after - first, rate)}
        ET.SubElement(spine, "asset-clip", ref="r2", name=titled(d), format="r1", tcFormat="NDF", attrib=times)
        offset += after - first
    ET.indent(root)
    return Sheet(f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{ET.tostring(root, "unicode")}\n')


def _time(frames: int, rate: Fraction) -> str:
    """Return `n/ds`, never `5s` or `0s`, which LosslessCut rejects."""
    return f"{frames * rate.denominator}/{rate.numerator}s"
