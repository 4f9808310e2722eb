"""Devices, seeds and numbers of jobs, as named in calls."""

import ctypes
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from wtal.errors import UsageError

LARGEST_SEED = 2**32 - 1
"""Maximum seed of numpy and torch."""
AUTOMATIC = 0
"""Number of jobs that stands for the fastest on this machine; `auto` in calls."""
MOST_JOBS = 1024


def pick_device(wanted: str, several: bool = False) -> str:
    """Resolve `--device`: `auto` is CUDA where torch sees it; with `several`, CUDA devices may be listed with commas.

    Raises:
        UsageError: when `wanted` is none of auto, cpu, cuda and cuda:N, or a CUDA device that is not there.
    """
    form = r"auto|cpu|cuda(:[0-9]+)?" + (r"|cuda:[0-9]+(,cuda:[0-9]+)+" if several else "")
    if not re.fullmatch(form, wanted):
        more = ", or cuda:0,cuda:1 and so on" if several else ""
        raise UsageError(f"--device takes auto, cpu, cuda or cuda:N{more}, got {wanted!r}")
    if wanted == "cpu":
        return wanted
    count = _count_cuda()
    if wanted == "auto":
        return "cuda" if count else "cpu"
    if not count:
        raise UsageError(f"--device {wanted}: torch sees no CUDA device here; use --device cpu")
    devices = [f"cuda:{int(name.partition(':')[2])}" if ":" in name else name for name in wanted.split(",")]
    for name in devices:
        if int(name.partition(":")[2] or 0) >= count:
            raise UsageError(f"--device {name}: the CUDA devices here are cuda:0 to cuda:{count - 1}; name one of them")
    return ",".join(dict.fromkeys(devices))


def _count_cuda() -> int:
    """Return the number of CUDA devices that torch sees. Its import takes seconds: it is skipped without a driver."""
    if not _has_driver():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _has_driver() -> bool:
    """Return whether there may be an NVIDIA or AMD driver: torch calls the devices of both CUDA."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return sys.platform == "win32" or any(Path(device).exists() for device in ("/dev/kfd", "/dev/dxg"))
    return True


def check_seeds(numbers: Sequence[int], given: object) -> tuple[int, ...]:
    """Return the seeds of a call.

    Raises:
        UsageError: when there is none, one occurs twice, or is not from 0 to 2^32 - 1.
    """
    whole = all(isinstance(number, int) and 0 <= number <= LARGEST_SEED for number in numbers)
    if not whole or not numbers or len(set(numbers)) < len(numbers):
        raise UsageError(
            f"--seeds takes different whole numbers up to {LARGEST_SEED}, separated by commas, such as 0,1,2; got "
            f"{given!r}"
        )
    return tuple(numbers)
