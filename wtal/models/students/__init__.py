"""One regression student per file; `StudentLeaf` is the contract of a file."""
# ruff: noqa: N802 - members are named as in modules

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from wtal.registry import Registry

if TYPE_CHECKING:
    import wtal.config
    from wtal.models.student import Student


class StudentLeaf(Protocol):
    """A module of `students/`: a student's settings, and the two ways to create it."""

    @property
    def Config(self) -> "type[wtal.config.Config]":
        """The student's own settings, each default with its source."""

    @property
    def FORMS(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings of the authors' own forms, by collection, where they differ from the defaults."""

    def create(self, num_classes: int, in_features: int, config: Any, authors: bool) -> "Student":
        """Make a student for C = `num_classes` and features of D = `in_features`, freshly initialised.

        `config` is a `Config` of this module. With `authors` it behaves as the authors' code, quirks included.
        """

    def from_authors(
        self, state_dict: Mapping[str, Any], num_classes: int, form: str, config: Mapping[str, Any]
    ) -> "Student":
        """Make a student from a state dict with the keys that the authors' own code saves.

        Settings that cannot be inferred from the tensors come from `config`, else from `form`.

        Raises:
            ConfigError: when a setting is unknown or invalid.
            WeightsError: when a key is missing, left over, or of another shape.
        """


STUDENTS = Registry[StudentLeaf]("student", __name__, StudentLeaf)
