"""Run every benchmark, each in a separate process: `python -m benchmarks [--quick] [--out FOLDER]`."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
QUICK = {
    "store": ["--videos", "20", "--dim", "64", "--reads", "50", "--repeat", "1"],
    "decode": ["--sizes", "320x240", "--frames", "25", "--repeat", "1"],
    "backbones": [
        "--sizes",
        "160x120",
        "--snippets",
        "2",
        "--batches",
        "1",
        "2",
        "--i3d-size",
        "64x48",
        "--repeat",
        "1",
    ],
    "extraction": ["--rendered", "1", "--seconds", "1", "--repeat", "1"],
    "whole": ["--cases", "160x120,h264,30", "--features", "motion-pyramid", "--seconds", "1", "--repeat", "1"],
    "weightless": ["--sizes", "160x120", "--frames", "25", "--repeat", "1"],
    "flow": ["--sizes", "160x120", "--textures", "fine", "--settings", "5x0.5 w1 1x10 m3", "--repeat", "1"],
    "flow_quality": ["--size", "64x48", "--clips", "2", "--settings", "4x0.5 w1 1x10 m3"],
    "flow_limits": ["--sizes", "160x120", "--iterations", "2", "--repeat", "1"],
    "heads": ["--heads", "basnet", "--videos", "3", "--lengths", "10", "20", "--widths", "128", "--repeat", "1"],
    "networks": ["--networks", "torchvision:s3d", "--ways", "eager", "bfloat16", "--size", "40x32", "--repeat", "1"],
    "judge": ["--detections", "300", "600", "--whole", "300", "--sample", "100", "--repeat", "1"],
    "diagnosis": ["--detections", "300", "600", "--whole", "300", "--sample", "100", "--repeat", "1"],
    "random_walk": ["--lengths", "20", "40", "--width", "32", "--repeat", "1"],
    "localization": ["--videos", "4", "--snippets", "200", "--classes", "3", "--loop-videos", "2", "--repeat", "1"],
    "submission": ["--videos", "60", "--detections", "6000", "--repeat", "1"],
}
"""Benchmarks in running order -> options of a trial run of a few seconds, whose figures mean nothing."""
QUICK_ON_CUDA = {"flow_gpu": ["--sizes", "160x120", "--batches", "1", "4", "--repeat", "1"]}
"""Benchmarks that need a CUDA device and are skipped without one."""
ALONE = {
    "hacs_size": ["--shares", "0.001", "--dim", "8", "--heads", "basnet", "--steps", "2"],
    "many_files": ["--videos", "6", "12", "--new", "3"],
}
"""Benchmarks that take an hour, much memory or much disk space: each runs alone, with `python -m benchmarks.NAME`."""


def main(argv: Sequence[str] | None = None) -> None:
    """Write one JSON file per benchmark into `--out`; print its path instead of the benchmark's own output."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one repetition: the numbers mean nothing")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results (default %(default)s)")
    options = parser.parse_args(argv)
    for name, quick in (QUICK | QUICK_ON_CUDA).items():
        if name in QUICK_ON_CUDA and not torch.cuda.is_available():
            print(f"benchmark {name} is skipped: torch sees no CUDA device", file=sys.stderr)
            continue
        print(f"benchmark {name} ...", file=sys.stderr, flush=True)
        path = options.out / f"{name}.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(path), *(quick if options.quick else [])]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(path, flush=True)
    print(f"For the page: python -m benchmarks.make_table {options.out}/*.json > docs/benchmarks.md", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
