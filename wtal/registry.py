"""Look up modules of a folder by file name: a new leaf is one new file and nothing else.

A dash in a name is an underscore in the file name: `tvl1-fast` is in `tvl1_fast.py`. Every folder of leaves declares
its registry in its `__init__.py`, next to the `Protocol` that is the contract of its leaves.
"""

import difflib
import importlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Generic, TypeVar, cast

from wtal.errors import UsageError, WtalError

Leaf = TypeVar("Leaf", covariant=True)

_ROOT = Path(__file__).parent
_MANY, _FEW = 30, 10


def suggest(name: str, choices: Iterable[str]) -> str:
    """Return half a sentence: the nearest match, if any, and the choices, or the first few of many."""
    choices = sorted(choices)
    near = nearest(name, choices)
    hint = f"did you mean {near!r}? " if near else ""
    shown = choices if len(choices) <= _MANY else [*choices[:_FEW], f"... ({len(choices)} in all)"]
    return f"{hint}choices: {', '.join(shown) or 'none'}"


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice nearest to a name; None if none is near."""
    return next(iter(difflib.get_close_matches(name, list(choices), n=1)), None)


@dataclass(frozen=True)
class Registry(Generic[Leaf]):
    """The leaves of one kind: the modules in `package`, and third parties' under the entry point `wtal.<kind>s`.

    `contract` is the protocol of each of them: its properties are values of the module, its methods functions. `names`
    reads the folder and imports nothing, so that help texts stay fast. `name` stands for
    `kind` in messages, if given.
    """

    kind: str
    package: str
    contract: type
    name: str = ""

    def names(self) -> list[str]:
        """Return the sorted names of all leaves; `load` also accepts a name with an argument after a colon."""
        return sorted(self._own() | {point.name for point in entry_points(group=f"wtal.{self.kind}s")})

    def load(self, name: str) -> Leaf:
        """Import leaf `name` and return its module; the part after a colon is left to the caller.

        Raises:
            UsageError: when there is no such leaf, with the nearest match.
            WtalError: when the leaf lacks a member of the contract.
        """
        leaf = name.partition(":")[0]
        module = self._import(leaf)
        if lacking := missing_members(module, self.contract):
            raise WtalError(
                f"{self.name or self.kind} {leaf!r} has no {lacking[0]}; wanted a module with "
                f"{', '.join(contract_members(self.contract))}, see {self.package}.{self.contract.__name__}"
            )
        return cast(Leaf, module)

    def _import(self, leaf: str) -> object:
        if leaf in self._own():
            return importlib.import_module(f"{self.package}.{leaf.replace('-', '_')}")
        for point in entry_points(group=f"wtal.{self.kind}s", name=leaf):
            return point.load()
        raise UsageError(f"there is no {self.name or self.kind} {leaf!r}; {suggest(leaf, self.names())}")

    def _own(self) -> set[str]:
        folder = _ROOT.joinpath(*self.package.split(".")[1:])
        stems = {path.stem for path in folder.glob("*.py")}
        return {stem.replace("_", "-") for stem in stems if not stem.startswith("_")}


def contract_members(contract: type) -> list[str]:
    """List the members that a protocol requires of a module: `NAME` for a value, `name()` for a function."""
    members = {name: member for name, member in vars(contract).items() if not name.startswith("_")}
    values = [name for name, member in members.items() if isinstance(member, property)]
    return values + [f"{name}()" for name, member in members.items() if inspect.isfunction(member)]


def missing_members(module: object, contract: type) -> list[str]:
    """List the members of a protocol that a module lacks, in the form of `contract_members`.

    A value in place of a function is also lacking, and vice versa.
    """
    return [member for member in contract_members(contract) if not _has(module, member)]


def _has(module: object, member: str) -> bool:
    name = member.removesuffix("()")
    if not hasattr(module, name):
        return False
    value = getattr(module, name)
    return callable(value) if member.endswith("()") else not inspect.isroutine(value)
