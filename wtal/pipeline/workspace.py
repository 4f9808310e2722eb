"""Workspace: the folder of all files, and defaults for bare commands."""

import os
from dataclasses import dataclass
from pathlib import Path

from wtal.errors import UsageError


def default_workspace() -> Path:
    """Return `$WTAL_WORKSPACE`, or `./workspace`."""
    return Path(os.environ.get("WTAL_WORKSPACE") or "workspace")


@dataclass(frozen=True)
class Workspace:
    """A workspace folder: features, annotations, runs, checks, tables, submissions, weights, results on new videos."""

    root: Path

    @property
    def features(self) -> Path:
        """Feature stores, one folder each."""
        return self.root / "features"

    @property
    def seen_files(self) -> Path:
        """Fingerprints of the videos in the feature stores, so that files need not be read again."""
        return self.root / "seen-files.json"

    @property
    def annotations(self) -> Path:
        """Annotation files of runs."""
        return self.root / "annotations"

    @property
    def runs(self) -> Path:
        """Training runs: NAME/seed-N."""
        return self.root / "runs"

    @property
    def checks(self) -> Path:
        """Scores of held-out labels, and heads of an unfinished check."""
        return self.root / "checks"

    @property
    def submissions(self) -> Path:
        """Challenge files."""
        return self.root / "submissions"

    @property
    def tables(self) -> Path:
        """Tables of reproduced datasets: DATASET/table.md and table.json."""
        return self.root / "tables"

    @property
    def new_features(self) -> Path:
        """Feature stores of new videos, separate from those used for training."""
        return self.root / "new-videos" / "features"

    @property
    def new_detections(self) -> Path:
        """Detections in new videos: MODEL/VIDEOS."""
        return self.root / "new-videos" / "detections"

    @property
    def verdicts(self) -> Path:
        """Human verdicts on detections."""
        return self.root / "verdicts.json"

    @property
    def reviewed(self) -> Path:
        """Annotation files of runs, extended by verdicts."""
        return self.root / "reviewed"

    @property
    def is_empty(self) -> bool:
        """True if there is neither a feature store nor an annotation file."""
        return not (self._stores() or self._annotation_files())

    def only_store(self) -> Path:
        """Return the only feature store.

        Raises:
            UsageError: when there is none, or more than one; the message lists them.
        """
        return self._only("feature store", self._stores(), "run `wtal extract` first", "--store")

    def only_annotations(self) -> Path:
        """Return the only annotation file.

        Raises:
            UsageError: when there is none, or more than one; the message lists them.
        """
        hint = f"put one into {self.annotations}"
        return self._only("annotation file", self._annotation_files(), hint, "--annotations")

    def newest_run(self) -> Path:
        """Return the finished run that ended last.

        Raises:
            UsageError: when none is finished, or several ended last.
        """
        # Imported late: every command imports this file, but few need a run with all its dependencies.
        from wtal.pipeline.runs import begun_runs, finish_times

        finished = finish_times(self.runs)
        if not finished:
            hints = [
                f"{run.folder} is still being trained; wait for it"
                if run.busy
                else f"{run.folder} is only partly trained; train it again to resume"
                for run in begun_runs(self.runs)
            ]
            hint = (*hints, "run `wtal train` first")[0]
            raise UsageError(f"{self.runs} holds no finished run; {hint}, or pass a run")
        newest = max(finished.values())
        return self._only("newest finished run", [run for run, when in finished.items() if when == newest], "", "RUN")

    def _stores(self) -> list[Path]:
        return [path.parent for path in self.features.glob("*/index.json")]

    def _annotation_files(self) -> list[Path]:
        return [path for path in self.annotations.glob("*") if not path.name.startswith(".")]

    def _only(self, what: str, candidates: list[Path], hint: str, option: str) -> Path:
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            lacking = f"the workspace has no {what}"
            if not self.root.exists():
                lacking = f"{self.root} does not exist, so there is no {what}"
            raise UsageError(f"{lacking}; {hint}, or pass one with {option}")
        listed = ", ".join(map(str, sorted(candidates)))
        raise UsageError(f"the workspace has {len(candidates)} {what}s; pass one with {option}: {listed}")


def relative(path: Path, start: Path, depth: int = 2) -> str:
    """Return `path` relative to `start` if both are in the same workspace, so that workspaces can be moved.

    `depth` is the number of folders of `start` below the workspace, minus one: 2 for a seed's folder, 1 for an
    ensemble's.
    """
    path, start = path.resolve(), start.resolve()
    root = start.parents[min(depth, len(start.parents) - 1)]
    return os.path.relpath(path, start) if root in path.parents else str(path)
