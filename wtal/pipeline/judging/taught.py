"""Segments taught to a refined run's student, next to the annotations of its training videos."""

from wtal.data.names import match_ids
from wtal.errors import WtalError
from wtal.pipeline.refinement.lessons import read_rounds
from wtal.pipeline.runs import Run
from wtal.report.page import Section
from wtal.report.pseudo_segments import TaughtSegments, pseudo_segment_section


def taught_section(run: Run) -> Section:
    """Draw the segments taught to a refined run's student in each round, and their accuracy given annotations."""
    rounds = [
        {
            video: TaughtSegments(own.borders, [run.classes[i] for i in own.classes], own.scores)
            for video, own in segments.items()
        }
        for segments in read_rounds(run.folder)
    ]
    try:
        dataset = run.annotations()
    except WtalError:
        return pseudo_segment_section(rounds, {})
    names = match_ids(dataset.videos, rounds[0] if rounds else ())
    truth = {own: dataset.videos[name].annotations for name, own in names.items()}
    return pseudo_segment_section(rounds, truth)
