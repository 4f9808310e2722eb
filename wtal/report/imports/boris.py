"""BORIS project, or its aggregated events as a table: an observation is a video.

Observations look the same before and after review: the file does not record what was looked at. In a table,
an observation without an event does not appear; its video keeps its verdicts.
"""

from collections.abc import Sequence
from pathlib import Path

from wtal.data.programs.boris import is_aggregated, is_project, read_observations
from wtal.report.export_text import boris_codes
from wtal.report.imports import Mark, Reviewed, counted


def sniff(path: Path) -> bool:
    """Return whether a file looks like a project, or like its aggregated events."""
    return is_project(path) or is_aggregated(path)


def read(path: Path) -> Sequence[Reviewed]:
    """Read the observations; times in seconds.

    Raises:
        FormatError: naming the malformed observation or line.
    """
    return [
        Reviewed(
            observation.media,
            tuple(Mark(state.start, state.end, state.label) for state in observation.states),
            (observation.name,),
            notes=counted({"point events": len(observation.points), "unpaired events": observation.unpaired}),
        )
        for observation in read_observations(path)
    ]


def spelled(labels: Sequence[str]) -> list[str]:
    """Return the codes of labels, in which BORIS accepts neither `|` nor `,`."""
    return list(boris_codes(labels).values())
