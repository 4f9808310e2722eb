"""Detections on disk and their run, which is opened once; the default places of their page and their verdicts."""

from dataclasses import dataclass
from pathlib import Path

from wtal.data.kinds import detections_in, require_detections
from wtal.errors import UsageError
from wtal.pipeline.runs import Run, is_run, open_run
from wtal.pipeline.workspace import Workspace


@dataclass(frozen=True)
class LocatedDetections:
    """A detection file, by its absolute path, and its run; None for a stand-alone file."""

    file: Path
    run: Run | None

    @property
    def run_folder(self) -> Path:
        """Absolute path of the run's folder; without meaning for a stand-alone file."""
        return self.file.parent.parent

    @property
    def page_folder(self) -> Path:
        """Default folder of the file's page: in its run, or else next to it."""
        if self.run is None:
            return self.file.with_name(f"{self.file.stem}-report")
        mark = self.file.stem.removeprefix("detections")
        return self.run_folder / f"report{mark}"

    @property
    def verdicts_file(self) -> Path:
        """File of verdicts on the detections: in their run's workspace, or else next to the file.

        Verdicts are therefore kept when a new training makes a new run.
        """
        if self.run is None:
            return self.file.with_name(f"{self.file.stem}-verdicts.json")
        folders = [folder.parent for folder in self.run_folder.parents if folder.name == "runs"]
        return Workspace(folders[0]).verdicts if folders else self.run_folder / "verdicts.json"


def locate(source: Path) -> LocatedDetections:
    """Locate the detections of a run with one seed, of a folder of `wtal detect`, or a file of them.

    Raises:
        UsageError: when the path does not exist, or a run has several seeds or no detections yet.
    """
    if source.is_file():
        file = detections_file(source)
        return LocatedDetections(file, Run.open(file.parent.parent) if is_run(file.parent.parent) else None)
    if not source.exists():
        raise UsageError(f"{source} does not exist; pass a run's folder or a detection file")
    if (file := detections_in(source)) != source:
        return LocatedDetections(file.absolute(), None)
    run = open_run(source)
    return LocatedDetections(run.detections().absolute(), run)


def detections_file(source: Path) -> Path:
    """Return the detection file of a run or of a folder of `wtal detect`, or the file itself, without its run.

    Raises:
        UsageError: as in `locate`.
    """
    if source.is_file():
        require_detections(source)
        return source.absolute()
    return locate(source).file
