"""What comes with the code: `deployments/`, and in it recipes and spaces that a person may call by their names.

`SLIMLINE_RECIPES` names a folder with recipes of the person's own, which then are called by their names too.
"""

import os
from pathlib import Path

# `flows/`, `tasks/` and `deployments/` lie in one folder: a checkout, or the site-packages that a wheel was put in.
ROOT = Path(__file__).parent.parent
DEPLOYMENTS = ROOT / "deployments"
OWN = [Path(folder) for folder in [os.environ.get("SLIMLINE_RECIPES")] if folder]
RECIPES = {file.stem: file for folder in [DEPLOYMENTS / "recipes", *OWN] for file in sorted(folder.glob("*.yaml"))}


SPACES = {file.stem: file for file in sorted((DEPLOYMENTS / "spaces").glob("*.yaml"))}


def recipe_named(recipe: Path) -> Path:
    """The file that a person means: one of theirs if it is there, else a shipped recipe by its bare name."""
    return recipe if recipe.is_file() else RECIPES.get(str(recipe), recipe)


def space_named(space: Path) -> Path:
    """As `recipe_named`, of the spaces of searches."""
    return space if space.is_file() else SPACES.get(str(space), space)
