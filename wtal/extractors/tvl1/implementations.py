"""The implementations of TV-L1, for any parameters: what the leaves `tvl1` and `tvl1-fast` share.

Each is a module beside this one, which is imported when it is asked for, and no sooner. It holds `why_not` and
`version` (the part of the identity that is the library's), and `Engine(parameters, device)`.
"""

import importlib
from functools import partial
from typing import Any

from wtal.extractors.optical_flow import CPU, CUDA, FlowEngine, Implementation
from wtal.extractors.tvl1.parameters import MIN_SIDE, Parameters


def implementations(parameters: Parameters) -> dict[str, Implementation]:
    """Name -> how it computes TV-L1 with these parameters; the best on a device stands before the others there."""
    return {
        "triton": _module("triton_engine", parameters, (CUDA,), pairs=256),
        "numba": _module("numba_engine", parameters),
        "opencv-contrib": _module("opencv_cpu", parameters),
        "torch": _module("torch_engine", parameters, pairs=16),
        "opencv-cuda": _module("opencv_cuda", parameters, (CUDA,)),
    }


def _module(name: str, parameters: Parameters, kinds: tuple[str, ...] = (CPU,), pairs: int = 1) -> Implementation:
    path = f"wtal.extractors.tvl1.{name}"
    return Implementation(
        why_not=partial(_why_not, path),
        identity=partial(_identity, path, parameters),
        engine=partial(_engine, path, parameters),
        kinds=kinds,
        pairs=pairs,
    )


def _why_not(path: str, device: str) -> str | None:
    reason: str | None = importlib.import_module(path).why_not(device)
    return reason


def _identity(path: str, parameters: Parameters) -> dict[str, Any]:
    return {**importlib.import_module(path).version(), "min_side": MIN_SIDE, "parameters": parameters.identity}


def _engine(path: str, parameters: Parameters, device: str) -> FlowEngine:
    engine: FlowEngine = importlib.import_module(path).Engine(parameters, device)
    return engine
