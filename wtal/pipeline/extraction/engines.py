"""Worker processes: joblib's on this machine, or those of an existing dask or ray cluster."""

import functools
import logging
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from wtal.errors import WtalError, require
from wtal.pipeline.extraction import worker
from wtal.pipeline.extraction.machine import Machine, Spreading
from wtal.pipeline.extraction.worker import Outcome

_IDLE_SECONDS = 10
"""Idle time after which a worker process ends, even if its parent was killed."""
_REACH_SECONDS = 10
_ASK_SECONDS = 1
GONE = "the cluster at {} is gone; start it and run the command again to resume"
_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMBA", "NUMEXPR")
"""Libraries that read their number of threads from the environment once, when a process starts."""


@dataclass(frozen=True)
class Pool:
    """Worker processes, `share` of them per machine; `submit` takes the arguments of `extract_in_worker`.

    They handle `together` videos at a time. An error of a class in `killed` means that the video's process died.
    `check` raises an error when the cluster is gone, unless the videos are cancelled then.
    """

    share: int
    together: int
    submit: Callable[..., Future[Outcome]]
    killed: tuple[type[Exception], ...]
    check: Callable[[], object] = lambda: None


def start_pool(machine: Machine, videos: int) -> AbstractContextManager[Pool]:
    """Start processes for `videos` videos, or connect to those of the cluster, for a `with` block.

    Raises:
        WtalError: on entering, when the cluster cannot be reached.
    """
    return _STARTERS[machine.engine](machine, videos)


class _Processes:
    """joblib's processes on this machine. When one is killed, all end, and new ones handle the remaining videos."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._executor = self._start()

    def submit(self, *arguments: Any) -> Future[Outcome]:
        """Submit a video to a free process."""
        try:
            future: Future[Outcome] = self._executor.submit(worker.extract_in_worker, *arguments)
        except BrokenExecutor:
            self._executor = self._start()
            future = self._executor.submit(worker.extract_in_worker, *arguments)
        return future

    def close(self, kill: bool) -> None:
        """End the processes; with `kill`, in the middle of their work."""
        self._executor.shutdown(wait=True, kill_workers=kill)

    def _start(self) -> Any:
        import joblib
        from joblib.externals.loky import ProcessPoolExecutor

        threads = str(max(1, joblib.cpu_count() // self._count))
        limits = {f"{name}_NUM_THREADS": os.environ.get(f"{name}_NUM_THREADS", threads) for name in _LIBRARIES}
        _start_tracker()
        return ProcessPoolExecutor(self._count, timeout=_IDLE_SECONDS, env=limits)


def _start_tracker() -> None:
    """Start the process that removes joblib's semaphores, without its warnings.

    After Ctrl-C it would warn of semaphores that the main process has already removed.
    """
    from joblib.externals.loky.backend.resource_tracker import ensure_running

    sys.warnoptions.append("ignore")  # a child process gets them as its -W options
    try:
        ensure_running()
    finally:
        sys.warnoptions.pop()


@contextmanager
def _loky(machine: Machine, videos: int) -> Iterator[Pool]:
    jobs = min(machine.jobs, videos)
    processes, finished = _Processes(jobs), False
    try:
        yield Pool(jobs, jobs, processes.submit, (BrokenExecutor,))
        finished = True
    finally:
        processes.close(kill=not finished)


@contextmanager
def _silent(*names: str) -> Iterator[None]:
    """Suppress logs: dask's contain tracebacks from connections to a lost scheduler."""
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _transfer(future: Future[Outcome], lost: type[Exception], task: Any) -> None:
    """Give `future` the outcome of dask's `task`; cancel it if the scheduler was lost, even with the result on its way.

    Dask's own executor would leave the future pending in the latter case.
    """
    try:
        future.set_result(task.result())
    except (CancelledError, lost):
        future.cancel()
        future.set_running_or_notify_cancel()
    except Exception as error:  # noqa: BLE001 - raised where the result is requested
        future.set_exception(error)


class _Watch:
    """Raise an error when nothing has listened at an address of a cluster for ten seconds.

    Ray itself would wait for a minute, then end this process.
    """

    def __init__(self, cluster: str, address: str) -> None:
        self.gone = False
        self._cluster, self._address = cluster, address
        self._asked, self._silent_since = time.monotonic(), float("inf")

    def __call__(self) -> None:
        """Ask the address, at most once per second.

        Raises:
            WtalError: when the cluster is gone.
        """
        now = time.monotonic()
        if now - self._asked < _ASK_SECONDS:
            return
        self._asked = now
        try:
            _require_listener(self._address)
        except OSError:
            self._silent_since = min(self._silent_since, now)
        else:
            self._silent_since = float("inf")
        self.gone = time.monotonic() - self._silent_since > _REACH_SECONDS
        if self.gone:
            raise WtalError(GONE.format(self._cluster))


@contextmanager
def _dask(machine: Machine, videos: int) -> Iterator[Pool]:
    distributed = require("distributed", "dask")
    try:
        client = distributed.Client(machine.cluster, timeout=_REACH_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise WtalError(f"no dask scheduler answers at {machine.cluster}: {error}") from None

    def submit(*arguments: Any) -> Future[Outcome]:
        task, future = client.submit(worker.extract_in_worker, *arguments, pure=False), Future[Outcome]()
        task.add_done_callback(functools.partial(_transfer, future, distributed.comm.CommClosedError))
        return future

    with _silent("distributed", "distributed.client"), client:
        workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            raise WtalError(f"the dask cluster at {machine.cluster} has no workers; start at least one")
        processes = Counter(process["host"] for process in workers.values())
        together = sum(process["nthreads"] for process in workers.values())
        yield Pool(max(processes.values()), together, submit, (distributed.KilledWorker,))


@contextmanager
def _ray(machine: Machine, videos: int) -> Iterator[Pool]:
    ray = require("ray", "ray")
    killed = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)
    started_here = not ray.is_initialized()
    # Until its shutdown, ray may report dead workers at any moment: on stdout, which is reserved for results.
    with redirect_stdout(sys.stderr), ExitStack() as cleanup:
        try:
            _require_listener(machine.cluster)
            ray.init(address=machine.cluster, ignore_reinit_error=True, log_to_driver=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise WtalError(f"no ray cluster answers at {machine.cluster}: {error}") from None
        address = machine.cluster if ":" in machine.cluster else ray.get_runtime_context().gcs_address
        watch = _Watch(machine.cluster, address)
        if started_here:
            cleanup.callback(lambda: None if watch.gone else ray.shutdown())
        nodes = max(1, sum(node["Alive"] for node in ray.nodes()))
        jobs = machine.jobs if machine.jobs > 1 else max(1, int(ray.cluster_resources().get("CPU", 1)))
        task = ray.remote(max_retries=0)(worker.extract_in_worker)
        yield Pool(-(-jobs // nodes), jobs, lambda *arguments: task.remote(*arguments).future(), killed, watch)


def _require_listener(address: str) -> None:
    """Return when HOST:PORT or ray://HOST:PORT accepts connections, or the address is a keyword of ray's such as auto.

    Raises:
        OSError: when nothing listens; ray itself would retry for minutes.
        ValueError: when the part after the colon is not a port.
    """
    url = urlsplit(address if "://" in address else f"//{address}")
    if url.hostname and url.port:
        socket.create_connection((url.hostname, url.port), _REACH_SECONDS).close()


_STARTERS: dict[Spreading, Callable[[Machine, int], AbstractContextManager[Pool]]] = {
    "loky": _loky,
    "dask": _dask,
    "ray": _ray,
}
