"""Registered versions as register lays them out, without the models: their evidence has figures that a test chooses."""

import hashlib
import tempfile
from pathlib import Path

from flows.recipe_file import check_settings
from tasks.contract.artifact import digest_folder
from tasks.evidence.evidence import Evidence, write_evidence
from tasks.evidence.page import PAGE
from tasks.register import digest_text
from tasks.store import registry, tracking


def register(evidence: Evidence, alias: str = "candidate", **settings) -> registry.Registered:
    """A version that a recipe with these settings ended with."""
    recipe = check_settings({"name": "made", **settings}).as_yaml()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "evidence").mkdir()
        write_evidence(evidence, folder / "evidence")
        (folder / "evidence" / PAGE).write_text("<html></html>")
        (folder / "recipe.yaml").write_text(recipe)
        teacher = hashlib.sha256(str(settings.get("teacher")).encode()).hexdigest()
        tags = {
            "slimline.content": hashlib.sha256(recipe.encode()).hexdigest(),
            "slimline.evidence": digest_folder(folder / "evidence"),
            "slimline.recipe": digest_text(recipe),
            "slimline.parent.teacher": teacher,
        }
        run = tracking.start_run("register", {}, {})
        made = registry.register(run, settings.get("name", "made"), folder, tags, {}, "", "")
        registry.set_alias(made.name, alias, made.version)
        return made
