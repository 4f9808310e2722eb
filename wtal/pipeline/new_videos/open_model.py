"""Paths -> models: a run's folder, or a file written by `wtal pack`."""

from pathlib import Path

from wtal.data.kinds import require_model
from wtal.errors import UsageError
from wtal.pipeline.exchange.packed_model import read_model
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.new_videos.detector import Detector
from wtal.pipeline.new_videos.model import Model, model_of
from wtal.pipeline.runs import open_run


def open_model(source: Path) -> Model:
    """Read the model in a packed file, or that of a run's folder.

    Raises:
        UsageError: when the path does not exist, or the folder holds several seeds.
        WtalError: when the file is damaged or newer, or the run is not finished.
    """
    if not source.exists():
        raise UsageError(f"{source} does not exist; pass a run's folder or a packed model")
    if not source.is_file():
        return model_of(open_run(source))
    require_model(source)
    return read_model(source)


def open_detector(source: Path, device: str = "cpu") -> Detector:
    """Open a packed model or a run for use from Python.

    Raises:
        WtalError: as in `open_model`, and when this machine cannot compute the model's features.
    """
    return Detector(open_model(source), Machine(device=device))
