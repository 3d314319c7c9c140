"""KServe: an `InferenceService` for Slimline's own runtime, which scales with the requests and begins as a canary.

After KServe's "Serving Runtimes" and "Canary Rollout"; the resources are serving.kserve.io/v1beta1 and v1alpha1.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from tasks.bundles.client import ask
from tasks.bundles.contents import Contents, read_sample, render
from tasks.bundles.server import lay_out_model, lay_out_server
from tasks.bundles.trial import TrialConfig, TrialResult
from tasks.contract.artifact import Target
from tasks.contract.errors import BundleMismatch

TARGET: Target = "onnxruntime"  # whose answers and times it is compared with
START = "kubectl apply -f serving-runtime.yaml -f inference-service.yaml"


def lay_out(folder: Path, contents: Contents) -> None:
    """Fill a folder: `model/` for the storage, `server/` for the runtime's image, and both resources."""
    lay_out_model(folder / "model", contents)
    image = f"slimline-server:{version('slimline')}"
    lay_out_server(folder / "server", image, "/mnt/models")
    values = {
        "name": contents.name,
        "service": service_name(contents.name),
        "number": contents.number,
        "config": contents.config,
        "evidence": contents.evidence_sha256,
        "image": image,
    }
    for name in ("serving-runtime.yaml", "inference-service.yaml"):
        render(f"kserve/{name}", folder / name, **values)


def service_name(name: str) -> str:
    """A registered name as Kubernetes allows it (RFC 1035): begins with a letter, and has no underscores."""
    plain = name.replace("_", "-").strip("-")
    return plain if plain[0].isalpha() else f"model-{plain}"


def trial(folder: Path, about: dict[str, Any], *, config: TrialConfig, **_: Any) -> TrialResult:
    """Run the runtime's server from the bundle; no cluster is needed. Raises as `ask` does, too.

    Raises:
        BundleMismatch: the service does not ask for this model's folder, or not for the runtime beside it.

    """
    import yaml

    service = yaml.safe_load((folder / "inference-service.yaml").read_text())["spec"]["predictor"]["model"]
    runtime = yaml.safe_load((folder / "serving-runtime.yaml").read_text())
    formats = [each["name"] for each in runtime["spec"]["supportedModelFormats"]]
    expected = f"/{about['name']}/{about['version']}"
    if service["runtime"] != runtime["metadata"]["name"] or service["modelFormat"]["name"] not in formats:
        raise BundleMismatch(
            f"inference-service.yaml does not fit serving-runtime.yaml: it asks for {service['runtime']} and "
            f"{service['modelFormat']['name']}, which is {runtime['metadata']['name']} of {formats}"
        )
    if not service["storageUri"].endswith(expected):
        raise BundleMismatch(
            f"inference-service.yaml does not fit the model beside it: its storageUri is {service['storageUri']}, and "
            f"should end with {expected}"
        )
    sample = read_sample(folder / "model")
    return ask(folder / "server", folder / "model", about["name"], sample, config, about["measured_p50_ms"])
