"""Distribution of the work of extraction: videos in flight, processes, devices, a cluster."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wtal.errors import UsageError
from wtal.extractors.decoding.reader import TIME_LIMIT
from wtal.pipeline.devices import AUTOMATIC, MOST_JOBS

Spreading = Literal["loky", "dask", "ray"]
"""Library that distributes videos over processes: on this machine, or of an existing cluster."""
_CORES_PER_JOB = 2
"""Cores that one process keeps busy with weight-free features: 1.6, measured on two."""
_VIDEOS_PER_JOB = 4
"""Videos per process for which its start-up is worth it."""
_MIB_PER_JOB = 1024
"""Memory of one process: with its reader and torch, 545 MB for 4K in H.264, and room for larger pictures."""
_MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True)
class Machine:
    """Settings for where the work is done, and how much of it at a time.

    `device` is one of torch's, or several separated by commas; `time_limit` is the maximum number of seconds that a
    reader may take for its next frame; `decoders` is the number of videos in flight in this process (0: one; with a
    GPU, half the number of cores). `jobs` processes share the videos: this one alone, several of joblib's `engine`,
    each with one video in flight, or the fastest number of them (`AUTOMATIC`). dask and ray run on the cluster at the
    address `cluster`, dask on all of its workers, as does ray if `jobs` is 1.

    Raises:
        UsageError: when options conflict, so that one of them would have no effect.
    """

    jobs: int = 1
    device: str = "cpu"
    time_limit: float = TIME_LIMIT
    decoders: int = 0
    engine: Spreading = "loky"
    cluster: str = ""

    def __post_init__(self) -> None:
        if not AUTOMATIC <= self.jobs <= MOST_JOBS:
            raise UsageError(f"jobs: wanted a number from 1 to {MOST_JOBS}, or auto, got {self.jobs}")
        if self.cluster and self.engine == "loky":
            raise UsageError(
                "--cluster has no effect without --engine dask or --engine ray; add one of them, or leave --cluster out"
            )
        if self.engine != "loky" and not self.cluster:
            address = "its scheduler's address" if self.engine == "dask" else "its address, or auto,"
            raise UsageError(f"--engine {self.engine} runs on an existing cluster; give {address} with --cluster")
        if self.engine == "dask" and self.jobs > 1:
            raise UsageError("--engine dask uses all workers of its cluster; leave out --jobs")
        if self.decoders and (self.jobs > 1 or self.engine != "loky"):
            raise UsageError(
                "--decoders is for a single process; with --jobs or a cluster, each process has one video in flight"
            )

    def settled(self, videos: int, networks: bool) -> "Machine":
        """Return the machine with `AUTOMATIC` jobs replaced by the fastest number for this many videos.

        A process without a network keeps two cores busy; on Linux, each must also have a GiB of available memory. A
        network uses all cores, and a cluster has its own number of workers: one process then.
        """
        import joblib

        if self.jobs != AUTOMATIC:
            return self
        alone = networks or self.decoders > 0 or self.engine != "loky" or self.device != "cpu"
        limits = [int(joblib.cpu_count()) // _CORES_PER_JOB, videos // _VIDEOS_PER_JOB, MOST_JOBS]
        spread = min([*limits, *(mib // _MIB_PER_JOB for mib in _available_mib())])
        return replace(self, jobs=1 if alone else max(1, spread))

    @property
    def in_flight(self) -> int:
        """Number of videos in flight in this process."""
        import joblib

        return self.decoders or (1 if self.device == "cpu" else max(2, int(joblib.cpu_count()) // 2))


def _available_mib() -> list[int]:
    """Return the memory available to new processes; an empty list if the system does not report it."""
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return []
    return [int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")]
