"""Earlier verdicts on the videos of imported files, of which answers may have been withdrawn."""

from collections.abc import Collection

from wtal.data.verdicts import Verdict, Verdicts
from wtal.data.video_ids import readable

_CORRECTIONS = ("no", "moved", "missed")
_NAMED = 3
"""Maximum number of verdicts named in a note."""


def without(before: Verdicts, videos: Collection[str] | None) -> Verdicts:
    """Return earlier verdicts without those on `videos`; None stands for all, as in a file of the page."""
    if videos is None:
        return Verdicts()
    others = tuple(verdict for verdict in before.verdicts if verdict.video not in videos)
    looked_at = tuple(video for video in before.looked_at if video not in videos)
    return Verdicts(verdicts=others, looked_at=looked_at)


def unrepeated(
    before: Verdicts, own: Verdicts, merged: Verdicts, videos: Collection[str] | None, replaced: bool
) -> list[str]:
    """Return a note on earlier verdicts that files on `videos` could repeat in their `own`, and do not.

    In files of programs, only corrections could be repeated: an unchanged segment is no answer. None for `videos`
    stands for a file of the page, which has all answers.
    """
    subjects = {verdict.subject for verdict in own.verdicts}

    def repeatable(verdict: Verdict) -> bool:
        return videos is None or (verdict.video in videos and verdict.verdict in _CORRECTIONS)

    lacking = [
        verdict
        for verdict in before.verdicts
        if verdict.subject not in subjects and (replaced or verdict in merged.verdicts) and repeatable(verdict)
    ]
    if not lacking:
        return []
    named = [f"{readable(v.video)}: {v.verdict!r} on {readable(v.label)!r}" for v in lacking[:_NAMED]]
    names = f"{', '.join(named)}{', ...' if len(lacking) > _NAMED else ''}"
    end = "are dropped" if replaced else "stay; --replace drops earlier verdicts on the videos of the files"
    return [f"{len(lacking)} earlier verdicts that the files do not repeat {end} ({names})"]
