"""Time a few steps of a method and of its second stage in a separate process; nothing is kept."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from wtal.data.annotations import read_annotations
from wtal.data.store import FeatureStore
from wtal.errors import DiskFullError, WtalError, lacks_memory
from wtal.models.refinement.config import RescoreConfig
from wtal.pipeline.detect import detect
from wtal.pipeline.progress import SILENT, Reporter, Task
from wtal.pipeline.recipe import Recipe
from wtal.pipeline.refinement.refine import refine
from wtal.pipeline.runs import Run
from wtal.pipeline.train import TrainInputs, describe, make_head, resolve_early, training_videos
from wtal.pipeline.workspace import Workspace

_STEPS = {"perturb": 6, "full": 12}
"""Number of timed optimizer steps of a head, by its sampling: the duration varies when whole videos are sampled."""
_STEPS_OF_A_STAGE = 3
_STUDENT_STEPS = 8


@dataclass(frozen=True)
class Measured:
    """Seconds for one method on a sample: per step, per checkpoint, and per video.

    `passes` covers all training videos, `detection` the reported ones, `lesson` the output of a teacher before its
    student learns, `relabelling` the training videos between two rounds. `memory` is the peak of the process, in bytes;
    `gpu` the same for a CUDA device. `processors` is the average number available, below one if other processes
    compete. `failure` is the reason for missing figures.
    """

    step: float = 0.0
    passes: float = 0.0
    checkpoint: float = 0.0
    detection: float = 0.0
    lesson: float = 0.0
    student_step: float = 0.0
    relabelling: float = 0.0
    student_checkpoint: float = 0.0
    student_detection: float = 0.0
    memory: int = 0
    gpu: int = 0
    processors: float = 1.0
    failure: str = ""


@dataclass
class _Steps(Reporter):
    """Clock of the steps of a training; as a reporter, of the training task."""

    begun: float = field(default_factory=time.monotonic)
    seconds: list[float] = field(default_factory=list)
    passes: list[float] = field(default_factory=list)
    waited: float = 0.0

    def tick(self, *_: object) -> None:
        """Count a step."""
        now = time.monotonic()
        self.seconds.append(now - self.begun)
        self.begun = now

    def aside(self, begin_step: Callable[..., None]) -> Callable[..., None]:
        """Time a head's work before its steps separately from them."""

        def begin(*arguments: Any) -> None:
            started = time.monotonic()
            begin_step(*arguments)
            self.passes.append(time.monotonic() - started)
            self.begun += self.passes[-1]

        return begin

    @contextmanager
    def task(self, name: str, total: int, unit: str) -> Iterator[Task]:
        """Begin a stage; the seconds until training begins are `waited`."""
        if unit != "step":
            yield Task()
            return
        now = time.monotonic()
        self.waited, self.begun = now - self.begun, now
        yield _Ticking(self)


class _Ticking(Task):
    def __init__(self, steps: _Steps) -> None:
        self.steps = steps

    def advance(self, count: int = 1, note: str = "") -> None:
        self.steps.tick()


def try_method(
    recipe: Recipe, store: Path, annotations: Path, folder: Path, second_stage: bool, device: str, threads: int
) -> Measured:
    """Train, detect and refine for a few steps on a sample; `threads` are torch's. Call it in a fresh process.

    Raises:
        DiskFullError: when there is no space in `folder`.
    """
    import torch

    torch.set_num_threads(threads)
    wall, processor = time.monotonic(), time.process_time()
    try:
        measured = _measure(recipe, TrainInputs(store, annotations), Workspace(folder), second_stage, device)
    except DiskFullError:  # not the method's fault, and the next one would fail too
        raise
    except (WtalError, MemoryError, RuntimeError) as error:
        if not (isinstance(error, WtalError) or lacks_memory(error)):
            raise
        return Measured(failure=" ".join(str(error).split()) or "not enough memory")
    gpu = torch.cuda.max_memory_reserved(device) if device.startswith("cuda") else 0
    processors = (time.process_time() - processor) / (time.monotonic() - wall)
    return replace(measured, memory=_most_held(), gpu=gpu, processors=processors)


def _measure(recipe: Recipe, inputs: TrainInputs, workspace: Workspace, second_stage: bool, device: str) -> Measured:
    run, steps, stages = _trained(recipe, inputs, workspace, device)
    ends = [len(steps.seconds) * (stage + 1) // stages for stage in range(stages)]
    step = _mean(steps.seconds, [0, *(end - 1 for end in ends)])
    usual = sorted(steps.passes)[len(steps.passes) // 2]
    detecting = _seconds(lambda: _detect(run, inputs, device))
    measured = Measured(
        step + usual,
        sum(seconds - usual for seconds in steps.passes),
        max(steps.seconds[-1] - step, 0.0),
        detecting,
    )
    return _with_second_stage(measured, run, inputs, workspace, device) if second_stage else measured


def _trained(recipe: Recipe, inputs: TrainInputs, workspace: Workspace, device: str) -> tuple[Run, _Steps, int]:
    """Train a recipe's head for a few steps, covering all parts of its training, and time them."""
    import torch

    from wtal.models.training.trainer import Trainer

    store, dataset = FeatureStore.open(inputs.store), read_annotations(inputs.annotations)
    torch.manual_seed(0)
    head = make_head(recipe, len(dataset.classes), store.dims)
    count = max(_STEPS[recipe.train.sampling], _STEPS_OF_A_STAGE * head.stages)
    short = {"steps": count, "epochs": 0, "checkpoint_every": count, "log_every": count}
    recipe = resolve_early(recipe.model_copy(update={"train": recipe.train.model_copy(update=short)}))
    folder = workspace.runs / "trial" / "seed-0"
    run = Run.write(folder, describe(inputs, store, dataset, recipe, 0, folder))
    videos, negatives = training_videos(store, dataset, recipe, store.ids)
    steps = _Steps()
    head.begin_step = steps.aside(head.begin_step)  # type: ignore[method-assign]
    trainer = Trainer(head, videos, recipe.train, 0, folder, device, None, negatives)
    steps.begun = time.monotonic()
    trainer.run(steps.tick)
    run.finish({"step": count})
    return run, steps, head.stages


def _with_second_stage(
    measured: Measured, run: Run, inputs: TrainInputs, workspace: Workspace, device: str
) -> Measured:
    config = run.recipe.refinement
    if isinstance(config, RescoreConfig):
        return _with_rescorer(measured, run, config, inputs, workspace, device)
    short = dict.fromkeys(("steps", "checkpoint_every", "log_every"), _STUDENT_STEPS)
    train = config.train.model_copy(update=short)
    config = config.model_copy(update={"train": train, "min_agreement": 1.0})
    steps = _Steps()
    (refined,) = refine([run], config, workspace, (0,), device, steps)
    ends = config.round_ends()
    firsts = [end for end in ends[:-1] if end < len(steps.seconds)]
    step = _mean(steps.seconds, [0, *(end - 1 for end in ends), *firsts])
    return replace(
        measured,
        lesson=steps.waited,
        student_step=step,
        relabelling=sum(max(steps.seconds[first] - step, 0.0) for first in firsts),
        student_checkpoint=max(steps.seconds[ends[0] - 1] - step, 0.0),
        student_detection=_seconds(lambda: _detect(refined, inputs, device)),
    )


def _with_rescorer(
    measured: Measured, run: Run, config: RescoreConfig, inputs: TrainInputs, workspace: Workspace, device: str
) -> Measured:
    short = {"epochs": 0, **dict.fromkeys(("steps", "checkpoint_every", "log_every"), _STUDENT_STEPS)}
    config = config.model_copy(update={"train": config.train.model_copy(update=short)})
    steps = _Steps()
    (refined,) = refine([run], config, workspace, (0,), device, steps)
    step = _mean(steps.seconds, [0, _STUDENT_STEPS - 1])
    return replace(
        measured,
        lesson=steps.waited,
        student_step=step,
        student_checkpoint=max(steps.seconds[-1] - step, 0.0),
        student_detection=_seconds(lambda: _detect(refined, inputs, device)),
    )


def _detect(run: Run, inputs: TrainInputs, device: str) -> Path:
    dataset, store = read_annotations(inputs.annotations), FeatureStore.open(inputs.store)
    reported = [video.id for video in dataset.select(run.recipe.evaluate.test_subset)]
    keys = frozenset(dataset.match(store.ids, reported).values())
    return detect(run, None, False, keys, device, SILENT)


def _mean(seconds: Sequence[float], left_out: Sequence[int]) -> float:
    """Return the mean without the steps in `left_out`, which do extra work; of all if none would remain."""
    usual = [value for step, value in enumerate(seconds) if step not in left_out]
    return fmean(usual or seconds)


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def _most_held() -> int:
    """Return the peak memory of this process, in bytes; 0 if the system does not report it, as on Windows."""
    status = Path("/proc/self/status")  # Linux only; excludes the peak of the parent process
    if status.exists():
        lines = dict(line.partition(":")[::2] for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) << 10
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
