"""ActivityNet results, as read by evaluation servers and `wtal evaluate`."""

import json
from collections.abc import Sequence

from wtal.data.detections import to_json
from wtal.report.exports import Export, ExportVideo, Sheet

EXPORT = Export(
    readers="evaluation code for ActivityNet, HACS and THUMOS, wtal itself",
    suffix="-activitynet.json",
    lacks="a statement of external data; for a submission use wtal submit",
    per="collection",
    shortest=0.0,
    clock="picture",
    exact=True,
)


def render(videos: Sequence[ExportVideo], classes: Sequence[str]) -> Sheet:
    """Return `results`: video -> label, score and segment in seconds from the first shown frame, the best first.

    `external_data` is present, as evaluation code requires it, but empty: no statement is made.
    """
    results = {video.id: [to_json(d) for d in sorted(video.detections, key=lambda d: -d.score)] for video in videos}
    content = {"version": "wtal", "results": results, "external_data": {}}
    return Sheet(json.dumps(content) + "\n")
