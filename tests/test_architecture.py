"""Rules on imports between rooms, checked in the source."""

import ast
import os
import subprocess
import sys
from collections.abc import Container
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import LONGEST
from tests.support.videos import constant, write_video

ROOT = Path(__file__).resolve().parents[1] / "wtal"
FILES = sorted(ROOT.rglob("*.py"))
TESTS = ROOT.parent / "tests"
TEST_FILES = sorted(TESTS.rglob("*.py"))

# A room may import the rooms named in its row, and itself.
BASE = {"config", "refusals", "registry", "heap", "errors", "version"}
MAY_IMPORT = {
    "__main__": {"cli"},
    "cli": {"commands", "registry"},
    "api": {"pipeline", "report", "extractors", "models", "eval", "data", *BASE},
    "commands": {"pipeline", "report", "extractors", "models", "eval", "data", *BASE},
    "pipeline": {"report", "extractors", "models", "eval", "data", *BASE},
    "report": {"extractors", "models", "eval", "data", *BASE},
    "extractors": {"data", *BASE},
    "models": {"data", *BASE},
    "eval": {"data", *BASE},
    "data": BASE,
    "config": {"refusals", "errors"},
    "refusals": {"registry"},
    "registry": {"errors"},
    "heap": set(),
    "errors": set(),
    "version": set(),
    "__init__": {"api", "version"},
}
ONLY_IN_EXTRACTORS = {"cv2", "decord", "av", "pytorchvideo", "torchcodec"}
LEAVES = (
    "models/heads",
    "models/rescorers",
    "models/students",
    "extractors/readers",
    "extractors/flow",
    "extractors/backbones",
    "extractors/image_encoders",
    "data/formats",
    "data/layouts",
    "eval/challenges",
    "report/exports",
    "report/imports",
)

# Names of public classes that several files define on purpose: settings of a leaf, engine of TV-L1, block of a student.
SHARED_NAMES = {"Config", "Engine", "Block"}


def imports(path: Path) -> list[tuple[int, str]]:
    """Yield (line, module) of every import at any level."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            found += [(node.lineno, node.module)]
            found += [(node.lineno, f"{node.module}.{name.name}") for name in node.names]
    return found


def module_name(path: Path) -> str:
    return ".".join(["wtal", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


def needs(path: Path, modules: Container[str]) -> set[str]:
    """Those of `modules` that a file imports: at its top, inside of functions, or for type checkers only.

    `from package import name` counts as the module of that name, if there is one, else as the package.
    """
    needed = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            needed |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{name.name}" for name in node.names]
            needed |= {name if name in modules else node.module for name in whole}
    return {name for name in needed if name in modules}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def of_file(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def test_there_are_files():
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_down(path):
    here = of_file(path)
    for line, module in imports(path):
        target = room(module) if module.startswith("wtal.") else ""
        if target in MAY_IMPORT and target != here:
            assert target in MAY_IMPORT[here], f"{path}:{line}: {here} imports {module}"


def test_every_room_has_a_row():
    assert {of_file(path) for path in FILES} == set(MAY_IMPORT)


def test_no_import_circle():
    """Files import one another in an order, wherever the import is: types run down, too."""
    modules = {module_name(path): path for path in FILES}
    graph = {name: needs(path, modules) for name, path in modules.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert set(order) == set(modules)


def test_rooms_are_not_crowded():
    """A room has at most 22 files, unless it is a folder of leaves."""
    for folder in {path.parent for path in FILES} - {ROOT / leaf for leaf in LEAVES} - {ROOT / "commands"}:
        assert len([path for path in FILES if path.parent == folder]) <= 22, folder


def test_the_rooms_of_tests_are_those_of_the_package():
    folders = {path.parent.relative_to(TESTS) for path in TEST_FILES} - {Path("support"), Path("fuzz")}
    assert [str(folder) for folder in folders if not (ROOT / folder).is_dir()] == []


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda p: str(p.relative_to(TESTS)))
def test_tests_borrow_nothing_from_benchmarks(path):
    for line, module in imports(path):
        borrowed = module.split(".")[0] == "benchmarks" and path != TESTS / "test_benchmarks.py"
        assert not borrowed, f"{path}:{line} imports {module}"


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda p: str(p.relative_to(TESTS)))
def test_no_file_of_tests_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 450


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_libraries_stay_in_their_rooms(path):
    here = of_file(path)
    for line, module in imports(path):
        top = module.split(".")[0]
        if top in ONLY_IN_EXTRACTORS:
            assert here == "extractors", f"{path}:{line}: {here} imports {top}"
        if top == "torch" and here in ("eval", "data"):
            assert path.name == "batch.py", f"{path}:{line}: {here} imports torch"


def test_one_class_name_means_one_thing():
    """Only the contracts of leaves, engines and students have the same name in several files."""
    places: dict[str, list[str]] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in SHARED_NAMES} == {}
    assert set(twice) >= SHARED_NAMES


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_do_not_import_each_other(leaf):
    names = {path.stem for path in (ROOT / leaf).glob("*.py")} - {"__init__"}
    package = "wtal." + leaf.replace("/", ".")
    for path in (ROOT / leaf).glob("*.py"):
        for line, module in imports(path):
            for other in names - {path.stem}:
                assert module != f"{package}.{other}", f"{path}:{line} imports its sibling {other}"


@pytest.mark.parametrize(
    "code",
    [
        "import wtal",
        "from wtal.cli import main; main(['--help'], standalone_mode=False)",
        "from wtal.extractors.flow import FLOWS; FLOWS.names()",
    ],
)
def test_help_needs_neither_torch_nor_cv2_nor_numba(code):
    check = f"{code}\nimport sys\nassert not {{'torch', 'cv2', 'numba', 'av'}} & set(sys.modules), 'imported'"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_reader_process_needs_no_torch():
    check = "import wtal.extractors.decoding.reader_process, sys; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_extraction_of_the_default_features_needs_no_torch(tmp_path):
    """Its import takes longer than the extraction of a short clip; workers and readers do without it, too."""
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, constant(25, 60))
    mark, package = tmp_path / "imported", tmp_path / "path" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"open({str(mark)!r}, 'w').close()\nraise ImportError('torch')\n")
    call = ["extract", str(tmp_path), "--workspace", str(tmp_path / "ws"), "--device", "cpu", "--jobs", "2"]
    paths = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "wtal", *call],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    assert not mark.exists()


def test_the_longest_files_of_tests_exist():
    assert [name for name in LONGEST if not (TESTS / name).is_file()] == []


def test_docstrings_begin_with_a_verb_or_a_noun():
    """A first word of a clause (what, how) delays the subject to the end."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    clauses = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            if text and text.split()[0] in {"Of", "What", "As", "How", "Whether"}:
                clauses.append(f"{path.relative_to(ROOT)}: {text.splitlines()[0]}")
    assert clauses == []


def test_no_machine_path_and_no_unfinished_word():
    for path in FILES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for word in ("/home/", "/Users/", "TODO", "FIXME", "XXX", "NotImplemented "):
                assert word not in line, f"{path}:{number}: {word}"
