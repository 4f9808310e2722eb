"""The package as others get it: its version stands once, its data goes along, what it depends on is said."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import wtal

ROOT = Path(wtal.__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = {"cv2": "opencv-contrib-python-headless", "llvmlite": "numba"}


def test_the_version_is_everywhere_the_same():
    version = PROJECT["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert f'version: "{version}"' in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert version not in (ROOT / "wtal" / "__init__.py").read_text(encoding="utf-8")
    assert f"wtal-{version}-py3-none-any.whl" in (ROOT / "docs" / "install.md").read_text(encoding="utf-8")


def test_every_kind_of_data_goes_along():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in data["wtal"] for path in (ROOT / "wtal").glob(pattern) if path.is_file()}
    files = {path for path in (ROOT / "wtal").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert sorted(files - packed - {path for path in files if path.suffix == ".py"}) == []


def test_what_is_imported_at_the_top_of_a_file_is_installed_with_the_package():
    """An extra is imported in a function or in a leaf of its own, and never by all."""
    named = {re.split(r"[\[<>=;~ ]", line)[0].lower() for line in PROJECT["dependencies"]}
    extras = {
        re.split(r"[\[<>=;~ ]", line)[0].lower()
        for lines in PROJECT["optional-dependencies"].values()
        for line in lines
    } | {"sklearn"}
    used = set()
    for path in (ROOT / "wtal").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            used |= {name.partition(".")[0] for name in names if name}
    foreign = {MODULES.get(name, name) for name in used - set(sys.stdlib_module_names) - {"wtal"}}
    assert foreign - extras <= named
    assert named <= foreign | {"joblib", "torch", "numba"}


def test_pins_hold_every_dependency():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    for line in PROJECT["dependencies"]:
        assert re.search(rf"^{re.split('[<>=]', line)[0]}==", pins, re.MULTILINE), line


def test_the_containers_copy_what_the_build_needs():
    for name in ("Dockerfile", "Dockerfile.cuda"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
        assert {"pyproject.toml", "README.md", "LICENSE", "wtal"} <= set(copied)
        assert all((ROOT / word).exists() for word in copied)
        extras = {extra for found in re.findall(r"\.\[([\w,]+)\]", "".join(lines)) for extra in found.split(",")}
        assert extras <= set(PROJECT["optional-dependencies"])
