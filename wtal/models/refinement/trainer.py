"""Train a student from pseudo segments, in rounds."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from wtal.errors import WtalError
from wtal.models.refinement.config import RefineConfig
from wtal.models.refinement.loop import OnStep, TrainingLoop
from wtal.models.refinement.pseudo_segments import PseudoSegments
from wtal.models.refinement.teaching import TaughtVideo, targets_of, taught_batch
from wtal.models.regression.video_term import video_term
from wtal.models.student import Student
from wtal.models.training.inputs import Scaler, step_indices
from wtal.models.training.log import TrainLog

Segments = Mapping[str, PseudoSegments]
"""Video -> its pseudo segments, in seconds; a missing video has none."""
Teach = Callable[[int, Student, Scaler], Segments | None]
"""(round from 0, the student's moving average, scaler) -> the segments of that round; None ends training, if they would
add nothing new. After an interruption it is called again with the same parameters."""


class StudentTrainer(TrainingLoop[Student]):
    """One student, one seed, one folder of checkpoints; the moving average at the end of each round is a stage."""

    def __init__(
        self,
        student: Student,
        videos: Sequence[TaughtVideo],
        config: RefineConfig,
        scaler: Scaler,
        teach: Teach,
        seed: int,
        folder: Path,
        device: str = "cpu",
    ) -> None:
        if not videos:
            raise WtalError("no training video has both features and labels")
        self.videos, self.config, self.teach = list(videos), config, teach
        self.device, self.ends, train = torch.device(device), config.round_ends(), config.train
        student = student.to(self.device)
        super().__init__(
            student,
            torch.optim.AdamW(student.parameter_groups(train.weight_decay), lr=train.learning_rate),
            scaler,
            config.plain(),
            self.ends[-1],
            seed,
            folder,
            train.log_every,
            train.checkpoint_every,
            train.average_decay,
        )

    def run(self, on_step: OnStep | None = None) -> int:
        """Train to the last step, from the newest checkpoint if there is one; return the number of rounds trained."""
        with self.opened() as log:
            for number, end in enumerate(self.ends):
                if self.step < end and not self._round(number, end, log, on_step):
                    return number
                if self.step == end:
                    self.write_stage(number)
        return len(self.ends)

    def _round(self, number: int, end: int, log: TrainLog, on_step: OnStep | None) -> bool:
        """Train up to step `end`; return False if there are no new segments."""
        with self.average.applied(self.network):
            segments = self.teach(number, self.network.eval(), self.scaler)
        if segments is None:
            return False
        self.train_to(end, lambda: self._one_step(segments), log, on_step)
        return True

    def _one_step(self, segments: Segments) -> dict[str, float]:
        """Take one optimizer step; return the weighted terms of the loss."""
        train, student, rng = self.config.train, self.network, self.begin_step()
        for group in self.optimizer.param_groups:
            group["lr"] = train.learning_rate * _height(self.step, self.steps, train.warm_up)
        indices = step_indices(self.seed, self.step, len(self.videos), train.batch_size, [], 0)
        videos = [self.videos[i] for i in indices]
        batch = taught_batch(videos, self.scaler, train.max_length, train.noise, rng)
        output = student(batch.features.to(self.device), batch.mask.to(self.device))
        own = [segments.get(video.id, PseudoSegments()) for video in videos]
        terms = student.loss(output, targets_of(videos, batch.firsts, own, output.points))
        if train.video_weight and batch.labels.any():
            labels = batch.labels.to(self.device)
            terms["video"] = train.video_weight * video_term(output, labels, train.video_ratio)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        if train.clip_norm:
            nn.utils.clip_grad_norm_(student.parameters(), train.clip_norm)
        self.optimizer.step()
        self.step += 1
        return {name: value.item() for name, value in terms.items()}


def _height(step: int, steps: int, warm_up: float) -> float:
    """Share of the learning rate at a step: linear from 0, then a cosine to 0."""
    rise = warm_up * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))
