"""Anyone re-checks a registered version: hashes, recipe, data, and what its files answer."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import BaseModel

from flows.orphans import say_process
from flows.recipe_file import registered_recipe
from flows.record import recorded
from flows.turn import machine_alone
from tasks.contract.errors import VersionDamaged, VersionUnsigned
from tasks.store import pages, tracking
from tasks.store.registry import Registered
from tasks.verify import TABLE, as_markdown, damage_as_markdown, open_verification, verify_version
from tasks.versions.address import VersionUri
from tasks.versions.registered import version_at


class Verified(BaseModel, frozen=True):
    """How it ended, as `slimline verify --json` prints it."""

    uri: str
    holds: bool
    page: str
    flow_run_url: str
    mlflow_url: str


@flow(name="verify", flow_run_name="{version}", persist_result=True, result_serializer="json", on_running=[say_process])
def verify(version: VersionUri = "models:/digits@champion", processors: bool = False) -> Verified:
    """Hold a registered version against its own evidence, from the registered files and the recorded data alone.

    Args:
        version: Which one, by alias or number.
        processors: Whether its files are asked on other processors too, as far as they can be emulated here.

    """
    chosen = version_at(version)
    with recorded("verification", f"verify-{chosen.name}", {"version": chosen.uri}) as run:
        holds, page = _verified(chosen, processors)
        tracking.log_text(run, page, TABLE)
        create_markdown_artifact(page, key="verification", description=chosen.uri)
        return Verified(
            uri=chosen.uri,
            holds=holds,
            page=page,
            flow_run_url=str(flow_run.ui_url),
            mlflow_url=pages.ui_url(run),
        )


def _verified(version: Registered, processors: bool) -> tuple[bool, str]:
    """Whether all that was recorded is so, and the page about it; of files that are damaged the page tells alone."""
    tags = {name: value for name, value in version.tags.items() if name.startswith("slimline.")}
    try:
        recipe = registered_recipe(version.uri)
        with machine_alone("verify"):
            made = verify_version(
                version.name, version.version, tags, recipe.data, recipe.validation, recipe.seed, processors
            )
    except VersionDamaged as damage:
        return False, damage_as_markdown(damage)
    except VersionUnsigned as error:
        return False, f"# {version.uri}: **not signed by the key that is asked for**\n\n{error}.\n"
    verification = open_verification(tracking.fetch(made))
    return verification.holds, as_markdown(verification)
