"""One regression student per file, and creation by name; `StudentLeaf` is the contract of a file."""
# ruff: noqa: N802 - members are named as in modules

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from wtal.errors import UsageError
from wtal.registry import Registry, suggest

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
        """Make a student for C = `num_classes` and features of D = `in_features`, freshly initialized.

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


def create_student(
    name: str,
    num_classes: int,
    feature_dims: Mapping[str, int] | int,
    *,
    authors: bool = False,
    form: str | None = None,
    **config: Any,
) -> "Student":
    """Create the student `name` for C = `num_classes` and D features, or streams whose widths sum to D.

    With `authors` it behaves as the authors' code, quirks included. `config` holds the student's own settings, which
    override those of `form` (`thumos14`, `activitynet-1.3`), or ours.

    Raises:
        UsageError: when there is no such student or form, no class, or no features.
        ConfigError: when a setting is unknown or invalid.
    """
    module = STUDENTS.load(name)
    width = feature_dims if isinstance(feature_dims, int) else sum(feature_dims.values())
    if num_classes < 1 or width < 1:
        raise UsageError(f"a student needs at least one class and one feature, got {num_classes} and {width}")
    settings = {**(form_settings(module, name, form) if form else {}), **config}
    return module.create(num_classes, width, module.Config.parse(settings, f"student {name}"), authors)


def load_author_student(
    name: str, state_dict: Mapping[str, Any], num_classes: int, form: str = "thumos14", **config: Any
) -> "Student":
    """Load a student from the authors' own state dict, in eval mode; implies `authors=True`.

    Widths and depths are read off the tensors. Settings that cannot be inferred from them (the window, the padded
    length) are those of `form`, or given in `config`.

    Raises:
        UsageError: when there is no such student or form, or no class.
        ConfigError: when a setting is unknown, invalid, or contradicts the tensors.
        WeightsError: when a key is missing, left over, or of another shape; the message names them.
    """
    module = STUDENTS.load(name)
    if num_classes < 1:
        raise UsageError(f"a student needs at least one class, got {num_classes}")
    form_settings(module, name, form)
    return module.from_authors(state_dict, num_classes, form, config).eval()


def form_settings(module: StudentLeaf, name: str, form: str) -> Mapping[str, Any]:
    """Return the settings of a form of the student `name`.

    Raises:
        UsageError: when it has no such form, with the nearest match.
    """
    if form not in module.FORMS:
        raise UsageError(f"student {name} has no form {form!r}; {suggest(form, module.FORMS)}")
    return module.FORMS[form]
