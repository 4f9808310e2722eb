"""Report which parts of the package are usable on this machine."""

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from wtal.errors import UsageError, WtalError
from wtal.extractors.flow import FLOWS, create_flow
from wtal.extractors.readers import ReaderLeaf, find_reader, reader_names
from wtal.pipeline.inspection.weights import published_weights, weights_file
from wtal.pipeline.workspace import Workspace
from wtal.version import installed_version

_PACKAGES = (
    "torch",
    "numpy",
    "av",
    "opencv-contrib-python-headless",
    "decord",
    "torchcodec",
    "numba",
    "joblib",
    "pydantic",
    "tensorboard",
)


def examine(workspace: Workspace) -> dict[str, dict[str, str]]:
    """Return the sections `machine`, `packages`, `readers`, `flow`, `weights`, `disk`."""
    return {
        "machine": _machine(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "readers": {name: _reader(find_reader(name)) for name in reader_names()},
        "flow": _flows(),
        "weights": _weights(),
        "disk": _disk(workspace.root),
    }


def _machine() -> dict[str, str]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "wtal": installed_version(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu cores": str(os.cpu_count()),
        "gpu": ", ".join(gpus) or "none visible to torch",
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _reader(reader: ReaderLeaf) -> str:
    return reader.why_not() or f"ok, {reader.version()}"


def _flows() -> dict[str, str]:
    """Try every implementation of every method; mark the default for a bare name on the best device here."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    states = {}
    for name in FLOWS.names():
        chosen = _chosen(name, device)
        for implementation in FLOWS.load(name).IMPLEMENTATIONS:
            try:
                create_flow(f"{name}:{implementation}", device)
            except (UsageError, WtalError) as error:
                states[f"{name}:{implementation}"] = str(error)
            else:
                states[f"{name}:{implementation}"] = f"ok{', the default' if implementation == chosen else ''}"
    return states


def _chosen(name: str, device: str) -> str:
    try:
        return create_flow(name, device).implementation
    except WtalError as error:
        return str(error)


def _weights() -> dict[str, str]:
    states = {}
    for name, weights in published_weights().items():
        path = weights_file(weights)
        how = f"download it by hand from {weights.url}" if weights.by_hand else f"fetched from {weights.url} when used"
        states[name] = f"present, {path}" if path.is_file() else f"absent; {how}"
    return states


def _disk(root: Path) -> dict[str, str]:
    existing = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    usage = shutil.disk_usage(existing)
    writable = "writable" if os.access(existing, os.W_OK) else "not writable"
    return {"workspace": f"{root} ({writable})", "free": f"{usage.free / 2**30:.1f} GiB of {usage.total / 2**30:.1f}"}
