"""A recipe: everything that decides a training run, in one frozen object.

A recipe is a YAML file in sections (`experiments/*.yaml`). Leaf names are unique over all sections,
so that one name is the YAML key, the option on the command line (`--lr`), the `mlflow run`
parameter (`-P lr=3e-4`), the MLflow param and the axis of a study's search space.

>>> load("demo", {"lr": "3e-4"}).optimisation.lr
0.0003
"""

from histo_mlflow.recipe.loading import (
    build,
    field_value,
    load,
    no_file,
    recipe_folder,
    refusals,
    shipped,
)
from histo_mlflow.recipe.sections import (
    MONITORS,
    AugmentSection,
    Monitor,
    Recipe,
    RecipeField,
    fields,
)
from histo_mlflow.recipe.words import did_you_mean

__all__ = [
    "MONITORS",
    "AugmentSection",
    "Monitor",
    "Recipe",
    "RecipeField",
    "build",
    "did_you_mean",
    "field_value",
    "fields",
    "load",
    "no_file",
    "recipe_folder",
    "refusals",
    "shipped",
]
