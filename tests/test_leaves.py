"""Every leaf of every registry keeps the protocol of its folder; others are refused by name."""

import inspect
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from wtal import registry
from wtal.data.formats import DATASETS
from wtal.data.layouts import LAYOUTS, NamesVideos
from wtal.errors import WtalError
from wtal.eval.challenges import CHALLENGES
from wtal.extractors.backbones import BACKBONES, HasDescription, HasVariants, TakesOthers
from wtal.extractors.flow import FLOWS
from wtal.extractors.image_encoders import ENCODERS
from wtal.extractors.readers import READERS, HasReaderVariants
from wtal.models.heads import HEADS
from wtal.models.rescorers import RESCORERS
from wtal.models.students import STUDENTS
from wtal.registry import contract_members, missing_members
from wtal.report.exports import EXPORTS
from wtal.report.imports import IMPORTS

ROOT = Path(__file__).resolve().parents[1]
TYPING = """
[mypy]
follow_imports = silent
ignore_missing_imports = True
plugins = pydantic.mypy
[mypy-torch.*,torchvision.*,numpy.*,cv2.*,av.*,numba.*,llvmlite.*,triton.*,joblib.*,rich.*,transformers.*]
follow_imports = skip
"""
"""Settings of mypy; libraries whose types take minutes to read count as `Any`."""
REGISTRIES = (
    *(HEADS, RESCORERS, STUDENTS, BACKBONES, ENCODERS, READERS, FLOWS),
    *(DATASETS, LAYOUTS, CHALLENGES, EXPORTS, IMPORTS),
)
OPTIONAL = {
    BACKBONES: (HasVariants, TakesOthers, HasDescription),
    READERS: (HasReaderVariants,),
    LAYOUTS: (NamesVideos,),
}
LEAVES = [pytest.param(kind, name, id=f"{kind.kind}-{name}") for kind in REGISTRIES for name in kind.names()]
MEMBERS = [
    pytest.param(kind, member, id=f"{kind.kind}-{member}")
    for kind in REGISTRIES
    for member in contract_members(kind.contract)
]


def keeps(module, contract):
    """Raise unless a module has each member of a protocol, with the right kind and the same parameters."""
    assert missing_members(module, contract) == []
    for member in contract_members(contract):
        if member.endswith("()"):
            wanted = inspect.signature(getattr(contract, member[:-2])).parameters.values()
            given = inspect.signature(getattr(module, member[:-2])).parameters.values()
            names = [parameter.name for parameter in wanted][1:]
            assert [parameter.name for parameter in given][: len(names)] == names, member
            more = list(given)[len(names) :]
            assert all(parameter.default is not parameter.empty for parameter in more), member


@pytest.mark.parametrize(("kind", "name"), LEAVES)
def test_every_leaf_keeps_its_protocol(kind, name):
    module = kind.load(name)
    keeps(module, kind.contract)
    for contract in OPTIONAL.get(kind, ()):
        if isinstance(module, contract):
            keeps(module, contract)


def test_every_protocol_and_member_says_what_it_is():
    for contract in [kind.contract for kind in REGISTRIES] + [one for more in OPTIONAL.values() for one in more]:
        assert contract.__doc__
        assert contract_members(contract)
        assert all(getattr(contract, member.removesuffix("()")).__doc__ for member in contract_members(contract))


def leaf_of(kind, **changes):
    """Module like the first leaf of a registry; a change to None removes a member."""
    module = ModuleType("third_party")
    first = next(name for name in kind.names() if name != "newcomer")
    members = {**vars(kind.load(first)), **changes}
    vars(module).update({name: value for name, value in members.items() if name not in changes or value is not None})
    return module


def announce(monkeypatch, kind, module):
    """Make `module` the leaf `newcomer`, like the entry point of another package."""
    monkeypatch.setattr(EntryPoint, "load", lambda self: module)
    point = EntryPoint("newcomer", "third_party", f"wtal.{kind.kind}s")
    monkeypatch.setattr(registry, "entry_points", lambda group, **name: [point] if group == point.group else [])


@pytest.mark.parametrize("kind", REGISTRIES, ids=lambda kind: kind.kind)
def test_a_leaf_of_another_package_that_keeps_the_protocol_is_taken(kind, monkeypatch):
    module = leaf_of(kind)
    announce(monkeypatch, kind, module)
    assert "newcomer" in kind.names()
    assert kind.load("newcomer:with an argument") is module


@pytest.mark.parametrize(("kind", "member"), MEMBERS)
def test_a_leaf_that_lacks_a_member_is_refused_in_one_line(kind, member, monkeypatch):
    name = member.removesuffix("()")
    wrong_kind = len if name == member else "no function"
    for change in (None, wrong_kind):
        module = leaf_of(kind, **{name: change})
        assert missing_members(module, kind.contract) == [member]
        with pytest.raises(AssertionError):
            keeps(module, kind.contract)
        announce(monkeypatch, kind, module)
        with pytest.raises(WtalError) as caught:
            kind.load("newcomer")
        line = str(caught.value)
        assert line.startswith(f"{kind.name or kind.kind} 'newcomer' has no {member}; wanted a module with ")
        assert all(wanted in line for wanted in contract_members(kind.contract))
        assert "\n" not in line


def test_parameters_under_other_names_do_not_keep_the_protocol():
    with pytest.raises(AssertionError, match="read"):
        keeps(leaf_of(DATASETS, read=lambda file: None), DATASETS.contract)
    with pytest.raises(AssertionError, match="read"):
        keeps(leaf_of(DATASETS, read=lambda path, needed: None), DATASETS.contract)


def mypy(source, folder):
    (folder / "mypy.ini").write_text(TYPING)
    (folder / "leaves.py").write_text(source)
    command = [sys.executable, "-m", "mypy", "--config-file", folder / "mypy.ini", "--cache-dir", folder / "cache"]
    return subprocess.run(
        [*command, folder / "leaves.py"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout


@pytest.mark.slow
def test_mypy_takes_each_leaf_for_its_protocol(tmp_path):
    lines = []
    for number, (kind, name) in enumerate(param.values for param in LEAVES):
        module = kind.load(name)
        optional = [contract for contract in OPTIONAL.get(kind, ()) if isinstance(module, contract)]
        lines.append(f"import {kind.package}, {module.__name__}")
        for contract in (kind.contract, *optional):
            lines.append(f"_{number}{contract.__name__}: {contract.__module__}.{contract.__name__} = {module.__name__}")
    assert len(lines) > 70
    wrong = "\nimport wtal.data.tally\nwrong: wtal.data.formats.FormatLeaf = wtal.data.tally"
    said = mypy("\n".join(lines) + wrong, tmp_path).splitlines()
    errors = [line for line in said if ": error: " in line]
    assert len(errors) == 1, "\n".join(said)
    assert f"leaves.py:{len(lines) + 2}: error: " in errors[0]
