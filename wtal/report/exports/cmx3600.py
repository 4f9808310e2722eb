"""CMX 3600 edit decision list: detections in sequence, for any editing program."""

from collections.abc import Sequence

from wtal.report.export_text import frame_span, plain, timecode, titled, whole_rate
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="Resolve, Premiere, Avid, LosslessCut: a reel of one video's detections",
    suffix="-cmx3600.edl",
    lacks="gaps between detections, sound, more than 999 events, variable and odd rates",
    needs=("rate",),
)
_MOST = 999


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return one event per detection of one video; frames at its rate, the record from 01:00:00:00.

    Raises:
        VideoError: when timecodes cannot count in the video's rate.
    """
    (video,) = videos
    assert video.rate is not None
    nominal = whole_rate(video.rate)
    lines = [f"TITLE: {plain(video.name)}", "FCM: NON-DROP FRAME", ""]
    record = 3600 * nominal
    for number, d in enumerate(video.detections[:_MOST], 1):
        first, after = frame_span(d, video.rate)
        codes = (timecode(frame, nominal) for frame in (first, after, record, record + after - first))
        record += after - first
        event = f"{number:03d}  AX       V     C        {' '.join(codes)}"
        lines += [event, f"* FROM CLIP NAME: {plain(video.name)}", f"* COMMENT: {titled(d)}", ""]
    left = len(video.detections) - _MOST
    return Sheet("\n".join(lines), (f"{left} after the first {_MOST}, left out",) if left > 0 else ())
