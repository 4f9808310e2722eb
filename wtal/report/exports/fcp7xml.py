"""Final Cut Pro 7 XML (xmeml 5): detections in sequence, for Premiere and Resolve."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from fractions import Fraction

from wtal.report.export_text import frame_span, is_ntsc, plain, titled, whole_rate
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="Premiere, Resolve: a reel of one video's detections",
    suffix=".xml",
    lacks="gaps between detections, sound, variable and odd rates",
    needs=("file", "rate", "size", "duration"),
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one clipitem per detection of one video; integer frames, each with its timebase.

    Raises:
        VideoError: when a timebase cannot express the video's rate.
    """
    (video,) = videos
    assert video.rate
    assert video.size
    assert video.file
    assert video.end is not None
    rate = video.rate
    spans = [(d, *frame_span(d, rate)) for d in video.detections]
    root = ET.Element("xmeml", version="5")
    sequence = ET.SubElement(root, "sequence", id="sequence-1")
    _texts(sequence, name=plain(video.name), duration=sum(after - first for _, first, after in spans))
    _add_rate(sequence, rate)
    track = ET.SubElement(_add_picture(sequence, video.size, rate), "track")
    length, record = max(1, round(Fraction(video.end) * rate)), 0
    for number, (d, first, after) in enumerate(spans, 1):
        item = ET.SubElement(track, "clipitem", id=f"clipitem-{number}")
        _texts(item, name=titled(d), duration=length)
        _add_rate(item, rate)
        _texts(item, **{"start": record, "end": record + after - first, "in": first, "out": after})
        record += after - first
        _add_file(item, video, length, rate, whole=number == 1)
    ET.indent(root)
    return Sheet(f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE xmeml>\n{ET.tostring(root, "unicode")}\n')


def _add_picture(sequence: ET.Element, size: tuple[int, int], rate: Fraction) -> ET.Element:
    picture = ET.SubElement(ET.SubElement(sequence, "media"), "video")
    form = ET.SubElement(ET.SubElement(picture, "format"), "samplecharacteristics")
    _add_rate(form, rate)
    _texts(form, width=size[0], height=size[1])
    return picture


def _add_file(item: ET.Element, video: ExportVideo, length: int, rate: Fraction, whole: bool) -> None:
    """Describe the file on its first use; later uses refer to its id."""
    file = ET.SubElement(item, "file", id="file-1")
    if not whole:
        return
    assert video.file
    assert video.size
    _texts(file, name=plain(video.name), pathurl=video.file.as_uri(), duration=length)
    _add_rate(file, rate)
    _add_picture(file, video.size, rate)


def _add_rate(parent: ET.Element, rate: Fraction) -> None:
    _texts(ET.SubElement(parent, "rate"), timebase=whole_rate(rate), ntsc="TRUE" if is_ntsc(rate) else "FALSE")


def _texts(parent: ET.Element, **values: object) -> None:
    for name, value in values.items():
        ET.SubElement(parent, name).text = str(value)
