"""BORIS project, or its aggregated events as a table: an observation is a video.

An observation lies there as the export wrote it: of what a person has looked at the file says nothing. In a table, an
observation without an event does not occur; its video keeps its verdicts.
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
        FormatError: naming the observation or the line that is not as BORIS writes it.
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
    """Return the codes of labels: BORIS takes neither | nor , in them."""
    return boris_codes(labels)
