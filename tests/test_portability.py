"""Other systems, as far as they can be stood in for here: without what only POSIX has, everything still imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wtal

ROOT = Path(wtal.__file__).parent
POSIX_MODULES = ("fcntl", "resource", "termios", "tty", "pwd", "grp", "posix", "syslog")
POSIX_NAMES = {
    "os": "O_NOFOLLOW O_CLOEXEC O_NONBLOCK O_DIRECTORY fork kill getuid geteuid getgid sched_getaffinity mkfifo chown",
    "signal": "SIGKILL SIGALRM SIGHUP SIGUSR1 SIGUSR2 SIGQUIT SIGPIPE alarm pause",
}

IMPORT_ALL = """
import asyncio, http.server, importlib, multiprocessing, os, pkgutil, signal, sys, tempfile
import av, click, cv2, joblib, numba, numpy, pydantic, rich.progress, torch
for name in MODULES:
    sys.modules[name] = None
for module, names in ((os, NAMES["os"]), (signal, NAMES["signal"])):
    for name in names.split():
        delattr(module, name)
import wtal
walked = [found.name for found in pkgutil.walk_packages(wtal.__path__, "wtal.") if found.name != "wtal.__main__"]
for name in walked:
    importlib.import_module(name)
print(len(walked))
"""


@pytest.mark.slow
def test_every_module_imports_without_what_only_posix_has():
    code = f"MODULES, NAMES = {POSIX_MODULES!r}, {POSIX_NAMES!r}\n{IMPORT_ALL}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = [path for path in ROOT.rglob("*.py") if path.name not in ("__init__.py", "__main__.py")]
    assert int(done.stdout) >= len(files)


def test_what_only_posix_has_is_nowhere_taken_for_granted():
    """A module of POSIX is imported in a `try`, or in a function that says why it may; its names are asked for."""
    allowed = {("commands/_exits.py", "resource"), ("pipeline/reproduction/trial.py", "resource")}
    uses = set()
    for path in sorted(ROOT.rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                uses |= {(file, alias.name) for alias in node.names if alias.name in POSIX_MODULES}
            elif isinstance(node, ast.ImportFrom) and node.module in POSIX_MODULES:
                uses.add((file, node.module))
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                uses |= {(file, f"{m}.{node.attr}") for m, names in POSIX_NAMES.items()
                         if node.value.id == m and node.attr in names.split()}  # fmt: skip
    assert uses == allowed


def test_processes_are_spawned_never_forked():
    forks = [
        f"{path}:{number}"
        for path in sorted(ROOT.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if 'get_context("fork' in line or "os.fork(" in line or "preexec_fn" in line
    ]
    assert forks == []
