"""A run's proposals -> a trained rescorer, and its detections; annotated times are not used."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wtal.data.files import read_json, write_json
from wtal.data.segments import Detection
from wtal.data.store import FeatureStore
from wtal.models.localization.config import LocalizeConfig
from wtal.models.refinement.config import RescoreConfig
from wtal.pipeline.progress import Reporter
from wtal.pipeline.refinement.networks import make_rescorer
from wtal.pipeline.refinement.teacher import Labels, Teacher
from wtal.pipeline.runs import Run

_FIGURES = "proposals.json"


def train_rescorer(
    refined: Run,
    teacher: Teacher,
    config: RescoreConfig,
    features: FeatureStore,
    labels: Labels,
    background: Sequence[str],
    scaling: str,
) -> None:
    """Train the rescorer of a refined run on the labelled videos, and on those known to show no class.

    Proposals for the former are those of their own labels, for the latter those of all classes that the teacher
    searches for.

    Raises:
        WtalError: when the teacher proposes nothing in any labelled video.
    """
    import torch

    from wtal.models.refinement.rescoring import ProposedVideo, RescorerTrainer, distinct_borders, in_snippets
    from wtal.models.training.inputs import Scaler

    proposals, seed = teacher.proposals([*labels, *background], labels), refined.seed or 0
    seconds = {key: distinct_borders(own) for key, own in proposals.items()}

    def proposed(key: str) -> ProposedVideo:
        shown = np.array([name in labels.get(key, ()) for name in refined.classes], dtype=np.float32)
        return ProposedVideo(key, lambda: features[key].streams, shown, in_snippets(seconds[key], features.grid(key)))

    videos = [proposed(key) for key in seconds]
    lengths = np.concatenate([np.zeros(0), *(np.diff(own, axis=1)[:, 0] for own in seconds.values())])
    figures = {
        "proposals": len(lengths),
        "taught": sum(bool(len(own)) for own in seconds.values()),
        "median_seconds": float(np.median(lengths)) if len(lengths) else 0.0,
    }
    write_json(refined.folder / _FIGURES, {"figures": figures})
    torch.manual_seed(seed)
    rescorer = make_rescorer(config, len(refined.classes), refined.feature_dims)
    scaler = Scaler.fit(scaling, videos)
    trainer = RescorerTrainer(rescorer, videos, config, scaler, seed, refined.folder, teacher.device)
    with teacher.reporter.task(f"train {config.rescorer_name} seed {seed}", trainer.steps, "step") as task:
        done = 0

        def on_step(progress: Any) -> None:
            nonlocal done
            task.advance(progress.step - done, f"loss {progress.loss:.4f}")
            done = progress.step

        trainer.run(on_step)


def read_figures(folder: Path) -> Mapping[str, Any]:
    """Read the figures of the proposals that a rescorer was trained on."""
    figures: Mapping[str, Any] = read_json(folder / _FIGURES)["figures"]
    return figures


def detect_rescored(
    run: Run,
    rescoring: RescoreConfig,
    config: LocalizeConfig,
    keys: Sequence[str],
    labels: Labels,
    device: str,
    reporter: Reporter,
) -> dict[str, list[Detection]]:
    """Rescore the teacher's proposals in videos `keys`; `labels` narrows the classes of the videos it names.

    The `config` controls the teacher's proposals and the suppression of the result.

    Raises:
        UsageError: when an ensemble by detections cannot be localized this way.
        WtalError: when the run is not finished, or its teacher or store is missing.
    """
    from wtal.models.refinement.rescoring import rescored_detections, scored_proposals
    from wtal.pipeline.refinement.trained import trained_rescorer

    trained = trained_rescorer(run)
    rescorer, store = trained.head.to(device), run.store()
    proposals = Teacher(run.teacher(), config, device, reporter).proposals(keys, labels)
    detections: dict[str, list[Detection]] = {key: [] for key in keys}
    with reporter.task("detect", len(keys), "video") as task:
        for key in keys:
            if proposals[key]:
                scored = scored_proposals(rescorer, trained.scaler, store[key], proposals[key], device)
                own = labels.get(key)
                shown = np.array([own is None or name in own for name in run.classes])
                detections[key] = rescored_detections(
                    scored, run.classes, shown, config, rescoring, float(store.grid(key).period)
                )
            task.advance()
    return detections
