"""Create students and rescorers of recipes, with all settings spelled out."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wtal.config import about
from wtal.models.refinement.config import RefineConfig, RescoreConfig, SecondStage
from wtal.models.rescorers import RESCORERS, create_rescorer
from wtal.models.students import STUDENTS, create_student

if TYPE_CHECKING:
    from wtal.models.rescorer import Rescorer
    from wtal.models.student import Student


def resolve_second_stage(config: SecondStage) -> SecondStage:
    """Spell out every setting of the student or the rescorer.

    Raises:
        ConfigError: when the student or rescorer is unknown, or a setting is refused.
    """
    if isinstance(config, RescoreConfig):
        name = config.rescorer_name
        with about("refine.rescorer.name"):
            rescorer = RESCORERS.load(name)
        settings = rescorer.Config.parse(config.rescorer_settings, f"rescorer {name}", "refine.rescorer")
        return config.model_copy(update={"rescorer": {"name": name, **settings.plain()}})
    name = config.student_name
    with about("refine.student.name"):
        student = STUDENTS.load(name)
    settings = student.Config.parse(config.student_settings, f"student {name}", "refine.student")
    return config.model_copy(update={"student": {"name": name, **settings.plain()}})


def make_student(config: RefineConfig, num_classes: int, feature_dims: Mapping[str, int]) -> "Student":
    """Create the student of a second stage, freshly initialized."""
    return create_student(config.student_name, num_classes, feature_dims, **config.student_settings)


def make_rescorer(config: RescoreConfig, num_classes: int, feature_dims: Mapping[str, int]) -> "Rescorer":
    """Create the rescorer of a second stage, freshly initialized."""
    return create_rescorer(config.rescorer_name, num_classes, feature_dims, **config.rescorer_settings)


def make_network(config: SecondStage, num_classes: int, feature_dims: Mapping[str, int]) -> "Student | Rescorer":
    """Create the network of a second stage, of either kind."""
    if isinstance(config, RescoreConfig):
        return make_rescorer(config, num_classes, feature_dims)
    return make_student(config, num_classes, feature_dims)
