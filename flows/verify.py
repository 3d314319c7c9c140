"""Anyone re-checks a registered version: hashes, recipe, data, and what its files answer."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import BaseModel

from flows.deploy import needed
from flows.recipe_file import registered_recipe
from flows.record import recorded
from flows.turn import machine_alone
from tasks.store import tracking
from tasks.verify import as_markdown, open_verification, verify_version
from tasks.versions.address import VersionUri


class Verified(BaseModel, frozen=True):
    """How it ended, as `slimline verify --json` prints it."""

    uri: str
    holds: bool
    page: str
    flow_run_url: str
    mlflow_url: str


@flow(name="verify", flow_run_name="{version}", persist_result=True, result_serializer="json")
def verify(version: VersionUri = "models:/digits@champion", processors: bool = False) -> Verified:
    """Hold a registered version against its own evidence, from the registered files and the recorded data alone.

    Args:
        version: Which one, by alias or number.
        processors: Whether its files are asked on other processors too, as far as they can be emulated here.

    """
    chosen = needed(version)
    recipe = registered_recipe(chosen.uri)
    with recorded("verification", f"verify-{chosen.name}", {"version": chosen.uri}) as run:
        tags = {name: value for name, value in chosen.tags.items() if name.startswith("slimline.")}
        with machine_alone("verify"):
            made = verify_version(
                chosen.name, chosen.version, tags, recipe.data, recipe.validation, recipe.seed, processors
            )
        verification = open_verification(tracking.fetch(made))
        page = as_markdown(verification)
        create_markdown_artifact(page, key="verification", description=chosen.uri)
        return Verified(
            uri=chosen.uri,
            holds=verification.holds,
            page=page,
            flow_run_url=str(flow_run.ui_url),
            mlflow_url=tracking.ui_url(run),
        )
