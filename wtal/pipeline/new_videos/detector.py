"""Inference with a model: features of a video in, detections out; or, from Python, a video file in.

Every number is computed as in `wtal detect` and `wtal ensemble` for videos of a run's store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wtal.data.grid import SnippetGrid
from wtal.data.segments import Detection
from wtal.data.store import VideoFeatures
from wtal.errors import VideoError, WeightsError
from wtal.models.localization.config import LocalizeConfig
from wtal.models.localization.ensemble import MemberActivations, comparable, fuse, mean_activations
from wtal.models.localization.localize import localize
from wtal.models.localization.signals import Activations
from wtal.models.refinement.config import RescoreConfig
from wtal.pipeline.ensemble_run import refuse_unfit, refuse_unfused
from wtal.pipeline.extraction.machine import Machine
from wtal.pipeline.new_videos.model import Model, features_key
from wtal.pipeline.new_videos.same_features import same_extractor
from wtal.pipeline.recipe import localization_with
from wtal.pipeline.refinement.detect_refined import refuse_unlocated, selecting
from wtal.pipeline.refinement.networks import make_network
from wtal.pipeline.refinement.teacher import proposing
from wtal.pipeline.train import make_head

if TYPE_CHECKING:
    from wtal.extractors.execution.extractor import Extractor
    from wtal.models.head import Head
    from wtal.models.training.checkpoint import Network, Trained

Answer = tuple[Activations, SnippetGrid]


class Detector:
    """A model's heads on a device, its localization, and the extractors of its features.

    `assignments` are `localize.key=value`; `weights` name checkpoints of backbones as in `wtal extract`.

    Raises:
        WtalError: when this machine cannot compute the features; the message names the missing part.
        UsageError: when an assignment belongs to another section, or does not apply to the model.
        ConfigError: when an assignment is refused.
    """

    def __init__(
        self,
        model: Model,
        machine: Machine = Machine(),  # noqa: B008 - frozen
        weights: Sequence[str] = (),
        assignments: Sequence[str] = (),
    ) -> None:
        self.model, self.machine, self.device = model, machine, machine.device.partition(",")[0]
        self.config = localization_with(model.record.recipe, assignments) if assignments else model.recipe.localize
        _refuse_misfit(model, self.config)
        self._trained = {id(head): _trained(head, self.device) for head in model.heads()}
        self._students = {id(student): _trained_student(student, self.device) for student in model.students()}
        self.extractors: dict[str, Extractor] = {}
        self.notes: list[str] = []
        for key, head in model.stores().items():
            self.extractors[key], notes = same_extractor(head.features, head.sources, weights, machine)
            self.notes += [note for note in notes if note not in self.notes]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.model.record.classes

    def detect(self, video: str | Path) -> list[Detection]:
        """Return the detections in a video file, best first, in seconds; nothing is written.

        Raises:
            VideoError: when the file cannot be read.
        """
        try:
            return self.find(self._features(Path(video)))
        except VideoError as error:
            raise VideoError(f"{video}: {error}") from None

    def _features(self, path: Path) -> dict[str, VideoFeatures]:
        """Return the features of a video by `features_key`, without a store."""
        from wtal.extractors.execution.extraction_line import ExtractionLine

        features: dict[str, VideoFeatures] = {}
        keys = list(self.extractors)
        with ExtractionLine(list(self.extractors.values())) as line:
            for numbers in line.groups(range(len(keys))):
                for number, result in zip(numbers, line.run(path, numbers), strict=True):
                    if isinstance(result, VideoError):
                        raise result
                    features[keys[number]] = VideoFeatures(path.stem, result.grid, result.streams, result.info)
        return features

    def find(self, features: Mapping[str, VideoFeatures]) -> list[Detection]:
        """Return the detections in a video, best first, from its features by `features_key`."""
        return self._detections(self.model, features, self.config)

    def origin(self) -> dict[str, Any]:
        """Return the provenance of detections, as recorded in their files."""
        origin = {"localize": self.config.plain(), "use_labels": False, **self.model.stamps}
        origin["tuned_with_segments"] = origin["tuned_with_segments"] or self.config.tuned_with_segments
        return origin

    def _detections(
        self, model: Model, features: Mapping[str, VideoFeatures], config: LocalizeConfig
    ) -> list[Detection]:
        if model.record.by == "detections":
            pool = [self._detections(member, features, member.recipe.localize) for member in model.members]
            pairs = zip(pool, model.record.scales, strict=True)
            scaled = [[replace(detection, score=detection.score / scale) for detection in own] for own, scale in pairs]
            return fuse(scaled, model.record.weights, config)
        if model.teacher is not None:
            return self._refined(model, model.teacher, features, config)
        answer = self._answer(model, features)
        return [] if answer is None else localize(*answer, model.record.classes, config)

    def _refined(
        self, model: Model, teacher: Model, features: Mapping[str, VideoFeatures], config: LocalizeConfig
    ) -> list[Detection]:
        """Return the teacher's proposals, scored by a student or a rescorer."""
        from wtal.models.refinement.answers import candidates_of, scored_by_student
        from wtal.models.refinement.rescoring import rescored_detections, scored_proposals

        video, trained, refinement = features[features_key(model)], self._students[id(model)], model.recipe.refinement
        if not video.grid.num_snippets:
            return []
        if isinstance(refinement, RescoreConfig):
            proposals = self._detections(teacher, features, proposing(config))
            scored = scored_proposals(trained.head, trained.scaler, video, proposals, self.device)
            classes, everything = model.record.classes, np.ones(len(model.record.classes), dtype=bool)
            return rescored_detections(scored, classes, everything, config, refinement, float(video.grid.period))
        proposals = self._detections(teacher, features, proposing(selecting(teacher.recipe.localize, config)))
        candidates = candidates_of(trained.head, trained.scaler, video, self.device)
        return scored_by_student(proposals, candidates, model.record.classes, config, refinement)

    def _answer(self, model: Model, features: Mapping[str, VideoFeatures]) -> Answer | None:
        """Return the activations of a video and their clock; None if it has no snippet."""
        if model.members:
            return self._mean(model, features)
        from wtal.models.inference import activate

        video, trained = features[features_key(model)], self._trained[id(model)]
        if not video.grid.num_snippets:
            return None
        return activate(trained.head, trained.scaler, video, self.device), video.grid

    def _mean(self, model: Model, features: Mapping[str, VideoFeatures]) -> Answer | None:
        answers = []
        for member, weight in zip(model.members, model.record.weights, strict=True):
            answer = self._answer(member, features)
            if answer is None:
                continue
            own, grid = answer
            own = own if member.members else comparable(own, member.recipe.localize)
            columns = [member.record.classes.index(name) for name in model.record.classes]
            ordered = Activations(own.cas[:, columns], own.attention, own.video_scores[columns])
            answers.append(MemberActivations(ordered, grid, weight))
        if not answers:
            return None
        mean, grid = mean_activations(answers)
        if model.record.attends and mean.attention is None:
            mean = replace(mean, attention=np.ones(len(mean.cas), np.float32))
        return mean, grid


def _refuse_misfit(model: Model, config: LocalizeConfig) -> None:
    if model.teacher is not None and isinstance(model.recipe.refinement, RescoreConfig):
        _refuse_misfit(model.teacher, config)
    elif model.teacher is not None:
        refuse_unlocated(config, model.recipe.localize)
    elif model.record.by == "activations":
        refuse_unfit(config)
    elif model.record.by == "detections":
        refuse_unfused(config, model.recipe.localize)


def _trained(model: Model, device: str) -> "Trained[Head]":
    """Make a head from a model's parameters.

    Raises:
        WeightsError: when they do not fit the head.
    """
    head = make_head(model.recipe, len(model.record.classes), model.record.feature_dims)
    return _with_numbers(head, model, device, f"head {model.recipe.head_name}")


def _trained_student(model: Model, device: str) -> "Trained[Any]":
    """Make a student or a rescorer from a model's parameters.

    Raises:
        WeightsError: when they do not fit the network.
    """
    refinement = model.recipe.refinement
    network = make_network(refinement, len(model.record.classes), model.record.feature_dims)
    if isinstance(refinement, RescoreConfig):
        name = f"rescorer {refinement.rescorer_name}"
    else:
        name = f"student {refinement.student_name}"
    return _with_numbers(network, model, device, name)


def _with_numbers(network: "Network", model: Model, device: str, name: str) -> "Trained[Network]":
    import torch

    from wtal.models.training.checkpoint import Trained
    from wtal.models.training.inputs import Scaler

    def tensors(arrays: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(np.array(array)) for key, array in arrays.items()}

    try:
        network.load_state_dict(tensors(model.parameters))
    except RuntimeError as error:
        raise WeightsError(f"the model's parameters do not fit its {name}: {error}") from None
    scaler = Scaler(tensors(model.shift), tensors(model.gain), model.record.limit, model.record.unit)
    return Trained(network.eval().to(device), scaler, model.record.step, None)
