"""A project of BORIS, or its aggregated events as a table: the behaviours coded in a video are its labels.

The times of state events are used in evaluation only; point events, which have no length, are labels alone. An
observation without events has not been coded: its video is left out as unknown. All are in the subset `training`.
"""

from pathlib import Path, PurePath

from wtal.data.assemble import DatasetBuilder
from wtal.data.dataset import Dataset
from wtal.data.names import NamedId, plain_path
from wtal.data.programs.boris import Observation, is_aggregated, is_project, read_observations
from wtal.data.video_ids import is_video_name, short_ids
from wtal.errors import FormatError

_SUBSET = "training"


def sniff(path: Path) -> bool:
    """Return True if a file is a project, or a table of aggregated events."""
    return is_project(path) or is_aggregated(path)


def read(path: Path) -> Dataset:
    """Read the observations.

    Raises:
        FormatError: when an observation or a line is not in BORIS's form, naming it.
    """
    coded, builder = [], DatasetBuilder()
    for observation in read_observations(path):
        if observation.unpaired:
            builder.note("observations with unpaired events, which are ignored", observation.name)
        if observation.states or observation.points:
            coded.append(observation)
        else:
            builder.note("observations without events, left out as not coded", observation.name)
    if not coded:
        raise FormatError(f"{path}: no observation has an event; code some in BORIS first")
    paths = {observation.media: PurePath(plain_path(observation.media)) for observation in coded}
    ids = short_ids({media: PurePath(media.anchor) for media in paths.values() if is_video_name(media)})
    for observation in coded:
        media = paths[observation.media]
        _add(builder, NamedId(ids.get(media, observation.media), observation.media), observation)
    return builder.build()


def _add(builder: DatasetBuilder, video_id: str, observation: Observation) -> None:
    builder.where = f"observation {observation.name!r}"
    builder.add_video(video_id, _SUBSET, observation.duration)
    for state in observation.states:
        builder.add_segment(video_id, state.label, state.start, state.end)
    for label in observation.points:
        builder.add_label(video_id, label)
