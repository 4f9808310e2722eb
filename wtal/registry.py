"""A folder of modules, looked up by file name: a new leaf is one new file and nothing else.

A dash in a name is an underscore in the file's: `tvl1-fast` lies in `tvl1_fast.py`.
"""

import difflib
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from wtal.errors import UsageError

_ROOT = Path(__file__).parent
_MANY, _FEW = 30, 10


def suggest(name: str, choices: Iterable[str]) -> str:
    """A half sentence: the nearest match if there is one, and the choices, of many the first few."""
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = choices if len(choices) <= _MANY else [*choices[:_FEW], f"... ({len(choices)} in all)"]
    return f"{hint}choices: {', '.join(shown) or 'none'}"


@dataclass(frozen=True)
class Registry:
    """The leaves of one kind: the modules in `package`, and third parties' under the entry point `wtal.<kind>s`.

    `names` reads the folder and imports nothing, so that help texts stay quick.
    """

    kind: str
    package: str

    def names(self) -> list[str]:
        """Sorted names of all leaves; a name may be asked for with an argument behind a colon."""
        return sorted(self._own() | {point.name for point in entry_points(group=f"wtal.{self.kind}s")})

    def load(self, name: str) -> ModuleType:
        """The module of leaf `name`; what stands behind a colon is left to the caller.

        Raises:
            UsageError: with the nearest match, when there is no such leaf.
        """
        leaf = name.partition(":")[0]
        if leaf in self._own():
            return importlib.import_module(f"{self.package}.{leaf.replace('-', '_')}")
        for point in entry_points(group=f"wtal.{self.kind}s", name=leaf):
            module: ModuleType = point.load()
            return module
        raise UsageError(f"there is no {self.kind} {leaf!r}; {suggest(leaf, self.names())}")

    def _own(self) -> set[str]:
        folder = _ROOT.joinpath(*self.package.split(".")[1:])
        stems = {path.stem for path in folder.glob("*.py")}
        return {stem.replace("_", "-") for stem in stems if not stem.startswith("_")}


HEADS = Registry("head", "wtal.models.heads")
BACKBONES = Registry("backbone", "wtal.extractors.backbones")
READERS = Registry("reader", "wtal.extractors.readers")
FLOWS = Registry("flow", "wtal.extractors.flow")
DATASETS = Registry("dataset", "wtal.data.formats")
LAYOUTS = Registry("layout", "wtal.data.layouts")
CHALLENGES = Registry("challenge", "wtal.eval.challenges")
