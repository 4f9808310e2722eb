"""Common form of all results: rows, ratios, and the machine."""

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_LIBRARIES = ("numpy", "torch", "numba", "triton", "av", "decord", "torchcodec", "opencv-contrib-python-headless")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Parser with the common option of all benchmarks, `--out` for the JSON file."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, help="write the result to this JSON file too")
    return parser


def machine() -> dict[str, Any]:
    """Usable cores, processor, system, and versions of Python and libraries."""
    return {
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: number for name in _LIBRARIES if (number := _version(name))},
    }


def report(
    name: str, rows: Sequence[Mapping[str, Any]], ratios: Mapping[str, float], out: Path | None = None
) -> dict[str, Any]:
    """Print the result of benchmark `name` as JSON, write it to `out` if given, and return it."""
    result = {"what": name, "machine": machine(), "rows": [dict(row) for row in rows], "ratios": dict(ratios)}
    text = json.dumps(result, indent=2)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(f"{text}\n", encoding="utf-8")
    return result


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
