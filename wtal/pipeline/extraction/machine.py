"""Spread of the work of extraction: videos in flight, processes, devices, a cluster."""

from dataclasses import dataclass, replace
from typing import Literal

from wtal.errors import UsageError
from wtal.extractors.decoding.reader import TIME_LIMIT

Spreading = Literal["loky", "dask", "ray"]
"""Library that spreads videos over processes: those of this machine, or of a cluster that exists."""
AUTOMATIC = 0
"""Number of jobs that stands for the one that is fastest here."""
_CORES_PER_JOB = 2
"""Cores that one process keeps busy with features without weights: 1.6 of them, measured on two."""
_VIDEOS_PER_JOB = 4
"""Videos from which on another process is worth its start."""


@dataclass(frozen=True)
class Machine:
    """Settings that say where the work is done, and how much of it at a time.

    `device` is one of torch's, or several with commas between them; `time_limit` is how many seconds a reader may
    take for its next frame; `decoders` is the number of videos in flight in this process (0: one, with a GPU half as
    many as cores). `jobs` processes share the videos: this one alone, several of joblib's `engine`, each with one
    video in flight, or as many as are fastest here where it is `AUTOMATIC`. dask and ray run on the cluster at the
    address `cluster`, dask on all of its workers, ray too where `jobs` is 1.

    Raises:
        UsageError: when options do not go together, so that one of them would have no effect.
    """

    jobs: int = 1
    device: str = "cpu"
    time_limit: float = TIME_LIMIT
    decoders: int = 0
    engine: Spreading = "loky"
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

    def settled(self, videos: int, networks: bool) -> "Machine":
        """Return the same machine with the number of jobs that is fastest for so many videos, where it is to be chosen.

        A process without a network keeps two cores busy. A network takes all cores by itself, and a cluster has its
        own number of workers: one process then.
        """
        import joblib

        if self.jobs != AUTOMATIC:
            return self
        alone = networks or self.decoders > 0 or self.engine != "loky" or self.device != "cpu"
        spread = min(int(joblib.cpu_count()) // _CORES_PER_JOB, videos // _VIDEOS_PER_JOB)
        return replace(self, jobs=1 if alone else max(1, spread))

    @property
    def in_flight(self) -> int:
        """Number of videos in flight in this process."""
        import joblib

        return self.decoders or (1 if self.device == "cpu" else max(2, int(joblib.cpu_count()) // 2))
