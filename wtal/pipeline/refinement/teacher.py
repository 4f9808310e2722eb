"""A run as a teacher: its proposals before suppression; annotated times are not used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wtal.data.segments import Detection
from wtal.data.store import FeatureStore
from wtal.errors import UsageError
from wtal.models.localization.config import LocalizeConfig
from wtal.pipeline.activations import activations_of, localize_all
from wtal.pipeline.ensemble_run import fused, open_means, pooled_ids
from wtal.pipeline.progress import SILENT, Reporter
from wtal.pipeline.runs import Run

_MOST_PROPOSALS = 10_000
_LOWEST = {"video_scores": float(np.finfo(np.float32).tiny), "cas": -1e30}
"""Class thresholds reached by every class that a video may show, and no other."""

Labels = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Teacher:
    """A finished run of heads on the same features."""

    run: Run
    localize: LocalizeConfig
    device: str = "cpu"
    reporter: Reporter = SILENT

    def features(self) -> FeatureStore:
        """Open the store of its heads' features.

        Raises:
            UsageError: when an ensemble's members use several.
            WtalError: when the store is missing.
        """
        return FeatureStore.open(features_folder(self.run))

    def ids(self) -> list[str]:
        """Return the videos that the run covers."""
        if self.run.ensemble == "detections":
            return pooled_ids(self.run)
        return list((open_means(self.run) if self.run.ensemble else self.run.store()).ids)

    def proposals(self, keys: Sequence[str], labels: Labels) -> dict[str, list[Detection]]:
        """Return the proposals for each video at all thresholds, before suppression.

        They are for its own `labels`; in a video without `labels`, for all classes that the teacher searches for.
        """
        config = proposing(self.localize)
        if self.run.ensemble == "detections":
            pooled = fused(self.run, config, labels)
            return {key: pooled.get(key, []) for key in keys}
        activations, classes = self._activations(keys), self.run.classes
        wide = config.model_copy(update={"class_threshold": _LOWEST[config.class_from], "max_classes": 0})
        labelled, others = [key for key in keys if key in labels], [key for key in keys if key not in labels]
        proposals = localize_all(activations, labelled, classes, wide, labels)
        proposals |= localize_all(activations, others, classes, config, {})
        return {key: proposals[key] for key in keys}

    def _activations(self, keys: Sequence[str]) -> FeatureStore:
        if self.run.ensemble:
            return open_means(self.run)
        return activations_of(self.run, self.run.store(), keys, self.device, self.reporter)


def proposing(config: LocalizeConfig) -> LocalizeConfig:
    """Return a localization without suppression."""
    return config.model_copy(update={"suppression": "none", "max_detections": _MOST_PROPOSALS})


def features_folder(run: Run) -> Path:
    """Return the folder of the store with the features of a run's heads.

    Raises:
        UsageError: when an ensemble's members use several.
        WtalError: when a member, or the store, is missing.
    """
    if not run.ensemble:
        return run.store_folder()
    folders = {features_folder(member).resolve() for member in run.members()}
    if len(folders) > 1:
        names = ", ".join(sorted(folder.name for folder in folders))
        raise UsageError(
            f"{run.folder} has members on several stores ({names}), but a student takes only one; refine an ensemble "
            "of heads on the same features"
        )
    return folders.pop()
