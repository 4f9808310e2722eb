"""The implementations of TV-L1, for any parameters, shared by the leaves `tvl1` and `tvl1-fast`.

Each is a module in this folder, an `EngineModule`, imported only on use.
"""

import importlib
from functools import partial
from typing import Any, Protocol, cast

from wtal.extractors.optical_flow import CPU, CUDA, FlowEngine, Implementation
from wtal.extractors.tvl1.parameters import MIN_SIDE, Parameters


class EngineModule(Protocol):
    """A module that computes TV-L1."""

    def why_not(self, device: str) -> str | None:
        """Return None if this machine can run it on the device, else the reason in a few words."""

    def version(self) -> dict[str, Any]:
        """Return the versions of library and code for a store's identity."""

    def Engine(self, parameters: Parameters, device: str) -> FlowEngine:  # noqa: N802 - a class of the module
        """Create an engine."""


def implementations(parameters: Parameters) -> dict[str, Implementation]:
    """Map each name to its implementation with these parameters; the best for a device precedes the others there."""
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
    return _load(path).why_not(device)


def _identity(path: str, parameters: Parameters) -> dict[str, Any]:
    return {**_load(path).version(), "min_side": MIN_SIDE, "parameters": parameters.identity}


def _engine(path: str, parameters: Parameters, device: str) -> FlowEngine:
    return _load(path).Engine(parameters, device)


def _load(path: str) -> EngineModule:
    return cast(EngineModule, importlib.import_module(path))
