"""Students of recipes: settings spelled out, networks made."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wtal.models.refinement.config import RefineConfig
from wtal.models.students import STUDENTS
from wtal.pipeline.recipe import Recipe

if TYPE_CHECKING:
    from wtal.models.student import Student


def resolve_student(config: RefineConfig) -> RefineConfig:
    """Spell out every setting of the student.

    Raises:
        UsageError: when there is no such student.
        ConfigError: when a setting is refused.
    """
    name = config.student_name
    settings = STUDENTS.load(name).Config.parse(config.student_settings, f"student {name}")
    return config.model_copy(update={"student": {"name": name, **settings.plain()}})


def make_student(recipe: Recipe, num_classes: int, feature_dims: Mapping[str, int]) -> "Student":
    """Create the student of a recipe's second stage, freshly initialised."""
    from wtal.models.student import create_student

    return create_student(
        recipe.refinement.student_name, num_classes, feature_dims, **recipe.refinement.student_settings
    )
