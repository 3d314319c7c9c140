"""What comes with the code: `deployments/`, and in it recipes that a person may call by their names."""

from pathlib import Path

# `flows/`, `tasks/` and `deployments/` lie in one folder: a checkout, or the site-packages that a wheel was put in.
ROOT = Path(__file__).parent.parent
DEPLOYMENTS = ROOT / "deployments"
RECIPES = {file.stem: file for file in sorted((DEPLOYMENTS / "recipes").glob("*.yaml"))}


def recipe_named(recipe: Path) -> Path:
    """The file that a person means: one of theirs if it is there, else a shipped recipe by its bare name."""
    return recipe if recipe.is_file() else RECIPES.get(str(recipe), recipe)
