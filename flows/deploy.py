"""A registered version becomes a bundle for a server, which is tried before the version counts as deployed."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import BaseModel, Field

from flows.orphans import say_process
from flows.record import recorded
from flows.turn import machine_alone
from tasks.bundle import bundle_version, check_place, hand_out
from tasks.bundles import BUNDLES
from tasks.bundles.contents import BundleConfig, ServerName
from tasks.bundles.image import REPOSITORY, check_push, push_image
from tasks.bundles.trial import TrialConfig, TrialResult
from tasks.contract.artifact import BundleArtifact
from tasks.contract.progress import listener
from tasks.store import pages, registry, tracking
from tasks.store.registry import Registered
from tasks.trial import open_trial, try_bundle
from tasks.versions.address import VersionUri
from tasks.versions.registered import version_at

Repository = Annotated[str, Field(pattern=REPOSITORY, max_length=255)]


class DeployConfig(BaseModel, frozen=True, extra="forbid"):
    """What `slimline deploy` takes."""

    version: VersionUri
    to: ServerName
    bundle: BundleConfig = BundleConfig()
    trial: TrialConfig = TrialConfig()
    push: Repository = ""


class Deployed(BaseModel, frozen=True):
    """How a deployment ended, as `slimline deploy --json` prints it."""

    uri: str
    server: ServerName
    bundle: str = Field(description="Where the store has it.")
    sha256: str = Field(description="The digest over the bundle's files.")
    output: str = Field(description="Where it was written for a person; empty if nowhere.")
    image: str = Field("", description="Its image in the registry that it was pushed to, by digest.")
    start: str = Field(description="How to start it, in the bundle's folder.")
    trial: TrialResult
    flow_run_url: str
    mlflow_url: str


@flow(
    name="deploy",
    flow_run_name="{version} to {to}",
    persist_result=True,
    result_serializer="json",
    on_running=[say_process],
)
def deploy(
    version: VersionUri = "models:/digits@champion",
    to: ServerName = "docker",
    bundle: BundleConfig = BundleConfig(),  # noqa: B008  frozen
    trial: TrialConfig = TrialConfig(),  # noqa: B008  frozen
    output: str = "",
    push: Repository = "",
) -> Deployed:
    """Lay a registered version out for a server, try it, and mark the version as deployed.

    Args:
        version: Which one, by alias or number.
        to: For which server.
        bundle: The server's settings beside the model.
        trial: How it is tried.
        output: Where the bundle is written: a folder, or an archive if it ends in .tar.gz; empty for nowhere.
        push: Where the image of a bundle for docker is pushed to: REGISTRY/NAME, without a tag; empty for nowhere.

    """
    builder = check_push(push, to) if push else ""
    if output:
        check_place(Path(output))
    chosen = version_at(version)
    settings = {"version": chosen.uri, "to": to, "bundle": bundle.model_dump(), "trial": trial.model_dump()}
    with recorded("deployment", f"deploy-{chosen.name}-{to}", settings) as run:
        made = bundle_version(chosen.name, chosen.version, to, bundle)
        with machine_alone("deploy"):
            tried = open_trial(tracking.fetch(try_bundle(made, trial)))
        if output:
            hand_out(made, Path(output))
        image = _pushed(made, builder, f"{push}:{chosen.version}") if push else ""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        tag = f"sha256 {made.sha256[:12]}, {when}, server run: {str(tried.server_run).lower()}, {flow_run.ui_url}"
        tag += f", image {image}" if image else ""
        registry.tag_version(chosen.name, chosen.version, {f"deployed.{to}": tag})
        return _result(chosen, made, tried, to, output, image, run)


def _pushed(made: BundleArtifact, builder: str, image: str) -> str:
    """The image of a bundle, by its digest in the registry."""
    listener().note("deploy", f"{builder} builds {image} and pushes it")
    return push_image(builder, tracking.fetch(made), image)


def _result(
    version: Registered,
    made: BundleArtifact,
    tried: TrialResult,
    to: ServerName,
    output: str,
    image: str,
    run: str,
) -> Deployed:
    result = Deployed(
        uri=version.uri,
        server=to,
        bundle=made.uri,
        sha256=made.sha256,
        output=output,
        image=image,
        start=BUNDLES[to].START,
        trial=tried,
        flow_run_url=str(flow_run.ui_url),
        mlflow_url=pages.ui_url(run),
    )
    create_markdown_artifact(as_markdown(result), key=f"deployed-{to}", description=f"{version.uri} for {to}")
    return result


def as_markdown(result: Deployed) -> str:
    """What was tried, where the bundle is, and how it is started."""
    trial = result.trial
    ran = f"{trial.server} was run here: {trial.ran}."
    if not trial.server_run:
        ran = f"{trial.server} was **not** run here. What was run is {trial.ran}."
    times = ", ".join(f"{way} {took:.3f} ms" for way, took in trial.latency_p50_ms.items())
    beside = f" (in process: {trial.measured_p50_ms:.3f} ms)" if trial.measured_p50_ms else ""
    return "\n\n".join(
        [
            f"# {result.uri} for {result.server}",
            ran,
            f"{trial.examples} test examples were answered as when it was registered, within "
            f"{trial.largest_difference:.2g}. " + (f"Median of a request: {times}{beside}." if times else "Not timed."),
            *([f"Its image is `{result.image}`."] if result.image else []),
            f"The bundle, sha256 `{result.sha256[:12]}`, is `{result.output or result.bundle}`. In its folder:",
            f"```\n{result.start}\n```",
            f"[MLflow run]({result.mlflow_url})",
        ]
    )
