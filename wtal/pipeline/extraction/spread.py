"""Videos spread over threads of this process, processes of this machine, or a cluster that exists.

Whoever extracts a video writes it into the stores himself, under a claim, so that nothing is lost or doubled when he
dies: the video is then given to another one, and is told as a failure where that one dies too. Machines of a cluster
must see videos and stores under the same paths.
"""

import functools
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from wtal.data.store.writer import StoreWriter, file_fingerprint
from wtal.errors import UsageError, VideoError, WtalError, require
from wtal.extractors.backbones import BACKBONES
from wtal.pipeline.extraction.videos import VideoFile

if TYPE_CHECKING:
    from wtal.extractors.execution.assembly_line import Line
    from wtal.extractors.execution.extractor import Extracted, Extractor, ExtractorSpec
    from wtal.extractors.execution.stage_times import Spent

Item = TypeVar("Item")
Made = TypeVar("Made")
Engine = Literal["loky", "dask", "ray"]
STORE = "store"
_HOME = "WTAL_WORKSPACE"
_PATIENCE_SECONDS = 0.5
_IDLE_SECONDS = 10
"""After so long without work a worker process ends: also when its parent was killed."""
_KILLED = "its process was killed (out of memory?)"


@dataclass(frozen=True)
class Machine:
    """How the work is spread.

    `device` is one of torch's, or several with commas between them; `time_limit` the seconds for a reader without a
    frame; `decoders` the videos in flight in this process (0: two, for a GPU half as many as cores). `jobs` processes
    share the videos: this one alone, or several of joblib's `engine`, each with one in flight; dask and ray run on the
    cluster at the address `cluster`, dask on all of its workers, ray too where `jobs` is 1.

    Raises:
        UsageError: when options do not go together, so that one of them would do nothing.
    """

    jobs: int = 1
    device: str = "cpu"
    time_limit: float = 60.0
    decoders: int = 0
    engine: Engine = "loky"
    cluster: str = ""

    def __post_init__(self) -> None:
        if self.cluster and self.engine == "loky":
            raise UsageError("--cluster is an address for --engine dask or ray; name one of them")
        if self.engine != "loky" and not self.cluster:
            address = "its scheduler's address" if self.engine == "dask" else "its address, or auto,"
            raise UsageError(f"--engine {self.engine} runs on a cluster that exists: give {address} by --cluster")
        if self.engine == "dask" and self.jobs > 1:
            raise UsageError("--engine dask uses all workers of its cluster; leave --jobs out")
        if self.decoders and (self.jobs > 1 or self.engine != "loky"):
            raise UsageError("--decoders is for one process; with --jobs or a cluster each has one video in flight")

    @property
    def in_flight(self) -> int:
        """Videos in flight in this process."""
        import joblib

        return self.decoders or (2 if self.device == "cpu" else max(2, int(joblib.cpu_count()) // 2))


@dataclass(frozen=True)
class Outcome:
    """A video that is dealt with: why it failed for each store, or "", and what the stages did since the last one."""

    video: VideoFile
    reasons: list[str]
    spent: "dict[str, Spent]"


def spread(
    stores: Sequence[Path], extractors: "Sequence[Extractor]", videos: Sequence[VideoFile], machine: Machine
) -> Iterator[Outcome]:
    """Extract every video into every store; they come in order of finishing, and are in the stores' parts by then.

    Raises:
        WtalError: when the cluster cannot be reached.
    """
    if not videos or (machine.engine == "loky" and machine.jobs == 1):
        return _here(stores, extractors, videos, machine.in_flight)
    return _elsewhere([store.absolute() for store in stores], extractors, videos, machine)


def _here(
    stores: Sequence[Path], extractors: "Sequence[Extractor]", videos: Sequence[VideoFile], decoders: int
) -> Iterator[Outcome]:
    """In threads of this process; what another process has claimed is left to it first, and waited for at the end."""
    from wtal.extractors.execution.assembly_line import Line

    with ThreadPoolExecutor(decoders) as pool, Line(extractors) as line:
        before, left = line.times.stages(), list(videos)
        submit = functools.partial(pool.submit, functools.partial(_one, stores, line, wait=False))
        while left:
            later: list[VideoFile] = []
            for video, done in _in_flight(submit, decoders, left):
                reasons = done.result()
                if reasons is None:
                    later.append(video)
                    continue
                spent, before = line.times.since(before)
                yield Outcome(video, reasons, spent)
            if len(later) == len(left):
                time.sleep(_PATIENCE_SECONDS)
            left = later


def _in_flight(
    submit: Callable[[Item], Future[Made]], count: int, items: Iterable[Item]
) -> Iterator[tuple[Item, Future[Made]]]:
    """(item, what came of it) in order of finishing, `count` of them at a time."""
    flying: dict[Future[Made], Item] = {}
    for item in items:
        flying[submit(item)] = item
        if len(flying) == count:
            yield from _landed(flying)
    while flying:
        yield from _landed(flying)


def _landed(flying: dict[Future[Made], Item]) -> Iterator[tuple[Item, Future[Made]]]:
    for done in wait(flying, return_when=FIRST_COMPLETED).done:
        yield flying.pop(done), done


def _elsewhere(
    stores: Sequence[Path], extractors: "Sequence[Extractor]", videos: Sequence[VideoFile], machine: Machine
) -> Iterator[Outcome]:
    """In other processes, here or on a cluster. Where some die, each video that they had is tried again by itself."""
    died = []
    for video, outcome in _given_out(stores, extractors, videos, machine):
        if outcome:
            yield outcome
        else:
            died.append(video)
    for video in died:
        for _, outcome in _given_out(stores, extractors, [video], machine):
            yield outcome or _killed(stores, extractors, video)


def _given_out(
    stores: Sequence[Path], extractors: "Sequence[Extractor]", videos: Sequence[VideoFile], machine: Machine
) -> Iterator[tuple[VideoFile, Outcome | None]]:
    """Videos in order of finishing, each with its outcome, or None where its process, or one beside it, was killed."""
    with _ENGINES[machine.engine](machine, len(videos)) as pool:
        specs = tuple(replace(_anywhere(one.spec), share=pool.share) for one in extractors)
        home = str(Path(os.environ.get(_HOME) or "workspace").absolute())
        submit = functools.partial(pool.submit, tuple(stores), specs, home)
        for video, done in _in_flight(submit, pool.together, videos):
            if done.cancelled():
                raise WtalError(f"the cluster at {machine.cluster} is gone; start it and call again to go on")
            yield video, None if isinstance(done.exception(), pool.killed) else done.result()


def _killed(stores: Sequence[Path], extractors: "Sequence[Extractor]", video: VideoFile) -> Outcome:
    """The failure of a video whose process was killed, told to the stores that lack it."""
    reasons = []
    for store, one in zip(stores, extractors, strict=True):
        writer = StoreWriter.open(store, one.identity)
        reasons.append("" if writer.done(video.id) else _KILLED)
        if reasons[-1]:
            writer.fail(video.id, _KILLED)
    return Outcome(video, reasons, {})


def _anywhere(spec: "ExtractorSpec") -> "ExtractorSpec":
    """The same, its files and folders named so that they are found from any working directory."""
    from wtal.extractors.backbone import ANY

    module = BACKBONES.load(spec.backbone)
    leaf, colon, variant = spec.backbone.partition(":")
    if getattr(module, "VARIANTS", ()) is ANY:
        variant = _absolute(variant)
    weights = tuple((stream, name if name in module.WEIGHTS else _absolute(name)) for stream, name in spec.weights)
    return replace(spec, backbone=f"{leaf}{colon}{variant}", weights=weights)


def _absolute(name: str) -> str:
    return str(Path(name).absolute()) if name and Path(name).exists() else name


def _in_worker(stores: Sequence[Path], specs: "tuple[ExtractorSpec, ...]", home: str, video: VideoFile) -> Outcome:
    """`home` is the workspace, which weights are kept in too."""
    os.environ[_HOME] = home
    with _use(specs) as desk:
        reasons = _one(stores, desk.line, video, wait=True)
        return Outcome(video, reasons or [""] * len(stores), desk.new())


@dataclass
class _Desk:
    """A worker's extractors, kept over its videos, and what of their work has been told."""

    line: "Line"
    users: int = 0
    told: "dict[str, Spent]" = field(default_factory=dict)

    def new(self) -> "dict[str, Spent]":
        """What the stages did since it was asked last; several threads of a worker never tell of the same."""
        with _DESKS_CHANGE:
            new, self.told = self.line.times.since(self.told)
            return new


_DESKS: "dict[tuple[ExtractorSpec, ...], _Desk]" = {}
_DESKS_CHANGE = threading.RLock()


@contextmanager
def _use(specs: "tuple[ExtractorSpec, ...]") -> Iterator[_Desk]:
    """The worker's extractors for these specs; those of other specs that nobody uses any more are closed."""
    from wtal.extractors.execution.assembly_line import Line
    from wtal.extractors.execution.extractor import Extractor

    with _DESKS_CHANGE:
        if specs not in _DESKS:
            for other in [other for other, desk in _DESKS.items() if not desk.users]:
                _DESKS.pop(other).line.close()
            _DESKS[specs] = _Desk(Line([Extractor(spec) for spec in specs]))
        desk = _DESKS[specs]
        desk.users += 1
    try:
        yield desk
    finally:
        with _DESKS_CHANGE:
            desk.users -= 1


def _one(stores: Sequence[Path], line: "Line", video: VideoFile, wait: bool) -> list[str] | None:
    """Extract one video into every store: "" where it is in, the reason where it failed; None when another has it."""
    extractors = line.extractors
    writers = [StoreWriter.open(store, one.identity) for store, one in zip(stores, extractors, strict=True)]
    reasons = [""] * len(stores)
    with ExitStack() as claims:
        # In an order that is everybody's: two that wait for each other's stores would wait for ever.
        order = sorted(range(len(stores)), key=lambda i: stores[i])
        todo = [i for i in order if claims.enter_context(writers[i].claim(video.id, wait=wait))]
        if not all(i in todo or writers[i].done(video.id) for i in order):
            return None
        for same in line.groups(todo):
            made, fingerprint = _extracted(line, video, same)
            with line.times.busy(STORE, sum(not isinstance(one, VideoError) for one in made), "videos"):
                for i, one in zip(same, made, strict=True):
                    if isinstance(one, VideoError):
                        reasons[i] = str(one)
                        writers[i].fail(video.id, reasons[i])
                    else:
                        info = {"file": video.path.name, **one.info}
                        writers[i].write(video.id, one.grid, one.streams, info, fingerprint)
    return reasons


def _extracted(line: "Line", video: VideoFile, numbers: Sequence[int]) -> "tuple[list[Extracted | VideoError], str]":
    """What the extractors of these numbers make of a video, and the mark of its file."""
    try:
        return line.run(video.path, numbers), file_fingerprint(video.path)
    except OSError as error:
        return [VideoError(f"the file cannot be read any more: {error.strerror}")] * len(numbers), ""
    except VideoError as error:
        return [error] * len(numbers), ""


@dataclass(frozen=True)
class _Pool:
    """Processes, `share` of them on a machine, that `submit` gives the arguments of `_in_worker` to.

    They take `together` videos at a time. An error among `killed` comes of a video whose process died.
    """

    share: int
    together: int
    submit: Callable[..., Future[Outcome]]
    killed: tuple[type[Exception], ...]


class _Processes:
    """joblib's, on this machine. When one is killed all end, with what they were at; others take what comes then."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._executor = self._new()

    def submit(self, *arguments: Any) -> Future[Outcome]:
        """To a process that is free."""
        try:
            done: Future[Outcome] = self._executor.submit(_in_worker, *arguments)
        except BrokenExecutor:
            self._executor = self._new()
            done = self._executor.submit(_in_worker, *arguments)
        return done

    def close(self, kill: bool) -> None:
        """End them, with `kill` whatever they are at."""
        self._executor.shutdown(wait=True, kill_workers=kill)

    def _new(self) -> Any:
        import joblib
        from joblib.externals.loky import ProcessPoolExecutor

        threads = str(max(1, joblib.cpu_count() // self._count))
        limits = {f"{name}_NUM_THREADS": os.environ.get(f"{name}_NUM_THREADS", threads) for name in _LIBRARIES}
        return ProcessPoolExecutor(self._count, timeout=_IDLE_SECONDS, env=limits)


_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMBA", "NUMEXPR")
"""That read from the environment how many threads they take, once, in the first moment of a process."""


@contextmanager
def _loky(machine: Machine, videos: int) -> Iterator[_Pool]:
    jobs = min(machine.jobs, videos)
    processes, through = _Processes(jobs), False
    try:
        yield _Pool(jobs, jobs, processes.submit, (BrokenExecutor,))
        through = True
    finally:
        processes.close(kill=not through)


@contextmanager
def _dask(machine: Machine, videos: int) -> Iterator[_Pool]:
    distributed = require("distributed", "dask")
    try:
        client = distributed.Client(machine.cluster, timeout=_REACH_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise WtalError(f"no dask scheduler answers at {machine.cluster}: {error}") from None
    with client:
        workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            raise WtalError(f"the dask cluster at {machine.cluster} has no workers; start some")
        processes = Counter(worker["host"] for worker in workers.values())
        together = sum(worker["nthreads"] for worker in workers.values())
        submit = functools.partial(client.get_executor(pure=False).submit, _in_worker)
        yield _Pool(max(processes.values()), together, submit, (distributed.KilledWorker,))


@contextmanager
def _ray(machine: Machine, videos: int) -> Iterator[_Pool]:
    ray = require("ray", "ray")
    died = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)
    began = not ray.is_initialized()
    # Until it is shut down, ray may tell at any moment of workers that died: on stdout, where only results belong.
    with redirect_stdout(sys.stderr), ExitStack() as ended:
        try:
            _knock(machine.cluster)
            ray.init(address=machine.cluster, ignore_reinit_error=True, log_to_driver=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise WtalError(f"no ray cluster answers at {machine.cluster}: {error}") from None
        if began:
            ended.callback(ray.shutdown)
        nodes = max(1, sum(node["Alive"] for node in ray.nodes()))
        jobs = machine.jobs if machine.jobs > 1 else max(1, int(ray.cluster_resources().get("CPU", 1)))
        task = ray.remote(max_retries=0)(_in_worker)
        yield _Pool(-(-jobs // nodes), jobs, lambda *arguments: task.remote(*arguments).future(), died)


def _knock(address: str) -> None:
    """Nothing where somebody listens at HOST:PORT or ray://HOST:PORT, or it is a word of ray's such as auto.

    Raises:
        OSError: when nobody does; ray itself would try for minutes.
        ValueError: when what stands after the colon is no port.
    """
    where = urlsplit(address if "://" in address else f"//{address}")
    if where.hostname and where.port:
        socket.create_connection((where.hostname, where.port), _REACH_SECONDS).close()


_REACH_SECONDS = 10
_Started = Callable[[Machine, int], AbstractContextManager[_Pool]]
_ENGINES: dict[str, _Started] = {"loky": _loky, "dask": _dask, "ray": _ray}
