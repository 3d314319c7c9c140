"""Values for Prefect's and MLflow's own Helm charts, compared with what the programs read, and with the charts.

The charts are not part of this repository: CHARTS names a folder that has them as `prefect-server`, `prefect-worker`
and `mlflow`, such as from `helm pull --untar`. The values were written for prefect-helm at 75b0c27 and mlflow's
`charts` at 003d490.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import compose_file
import jsonschema
import pytest
import yaml
from known_variables import names_of_mlflow, names_of_prefect

ROOT = compose_file.ROOT
KUBERNETES = ROOT / "deployments" / "kubernetes"
VALUES = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((KUBERNETES / "helm").glob("*.yaml"))}
README = (KUBERNETES / "README.md").read_text()
# what a chart takes as it is: options of a program, fields of Kubernetes
FREE = {
    "value_options",
    "securityContext",
    "podSecurityContext",
    "containerSecurityContext",
    "resources",
    "env",
    "hosts",
}


def entries(value: object) -> Iterator[dict]:
    """Every environment variable that is set anywhere in values."""
    if isinstance(value, dict):
        if "name" in value and {"value", "valueFrom"} & set(value):
            yield value
        for inner in value.values():
            yield from entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from entries(inner)


def references(value: object) -> Iterator[tuple[str, str]]:
    """Every Secret and key that values name, by whichever of the charts' words."""
    if isinstance(value, dict):
        if "secretKeyRef" in value:
            yield value["secretKeyRef"]["name"], value["secretKeyRef"]["key"]
        for word, key in value.items():
            if "existingSecret" in value and word.endswith("SecretKey") and word != "existingSecretKey":
                yield value["existingSecret"], key
            if word in ("existingSecretKey", "existingSecretPasswordKey"):
                yield value["existingSecret"], key
        if set(value) == {"enabled", "existingSecret"}:
            yield value["existingSecret"], "auth-string"  # the charts' own name for it
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_variable_is_one_that_is_read():
    others = {"HOME", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "AWS_DEFAULT_REGION"}
    others |= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    for name, values in VALUES.items():
        unknown = {entry["name"] for entry in entries(values)} - names_of_prefect() - names_of_mlflow() - others
        assert not unknown, f"{name}: nothing reads {unknown}"
    assert len(list(entries(VALUES["mlflow"]))) > 10


def test_what_compose_says_of_the_servers_is_said_here_too():
    """Variables that the charts have words of their own for are left out."""
    compose = compose_file.read()["services"]["mlflow"]["environment"]
    told = {entry["name"]: entry for entry in entries(VALUES["mlflow"])}
    for name, value in compose.items():
        if name == "MLFLOW_ARTIFACTS_DESTINATION":
            assert VALUES["mlflow"]["mlflow"]["artifactsDestination"] == value
        elif name.endswith("_FILE"):
            reference = told[name.removesuffix("_FILE")]["valueFrom"]["secretKeyRef"]
            assert f"/run/secrets/{reference['key']}" == value, name
        elif name != "MLFLOW_SERVER_ALLOWED_HOSTS":
            assert told[name]["value"] == value, name


def test_secrets_are_references_to_what_make_secrets_makes(tmp_path):
    subprocess.run([compose_file.FOLDER / "make-secrets", tmp_path / "made"], check=True, capture_output=True)
    made = {file.name for file in (tmp_path / "made").iterdir()}
    (as_the_charts_call_it,) = re.findall(r"--from-file=([\w-]+)=deployments/docker/secrets/prefect_auth", README)
    assert "--from-file=deployments/docker/secrets " in README
    named = {reference for values in VALUES.values() for reference in references(values)}
    assert len(named) > 8
    assert {name for name, _ in named} == {"slimline"}
    assert {key for _, key in named} <= made | {as_the_charts_call_it}
    for values in VALUES.values():
        for entry in entries(values):
            if re.search("PASSWORD|SECRET_|AUTH_STRING|SECRET_ACCESS|_URL$", entry["name"]) and "value" in entry:
                assert re.fullmatch(r"http://s3:\d+", entry["value"]), entry["name"]


def test_what_is_written_is_written_to_folders_that_the_charts_make_writable():
    """The file systems are read-only; the image's own folders are not mounted."""
    homes = {entry["name"]: entry.get("value") for entry in entries(VALUES["prefect-server"]["global"])}
    assert homes["PREFECT_HOME"].startswith("/home/prefect/"), "the volume `scratch` of the chart"
    assert {entry["name"]: entry.get("value") for entry in entries(VALUES["mlflow"])}["HOME"] == "/tmp"


def test_mlflow_has_these_options():
    import mlflow.cli

    options = {name for option in mlflow.cli.server.params for name in (*option.opts, *option.secondary_opts)}
    server = VALUES["mlflow"]["server"]
    told = {f"--{name.replace('_', '-')}" for name in (*server["value_options"], *server["flag_options"])}
    assert told <= options
    compose = {part.split("=")[0] for part in compose_file.command("mlflow")[2:]}
    assert told | {"--backend-store-uri"} == compose


def test_versions_are_those_of_the_lock():
    (locked,) = re.findall(r"^prefect==(\S+)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    worker = VALUES["prefect-worker"]["worker"]["image"]
    assert (worker["repository"], worker["prefectTag"]) == (
        "prefecthq/prefect",
        f"{locked}-python3.11-kubernetes",
    )
    images = (VALUES["mlflow"]["image"]["tag"], VALUES["prefect-server"]["global"]["prefect"]["image"]["prefectTag"])
    assert len(set(images)) == 1, "both servers are started from one image"


def test_pool_template_and_addresses_fit_each_other():
    worker = VALUES["prefect-worker"]["worker"]
    assert f"prefect work-pool create {worker['config']['workPool']} --type kubernetes" in README
    template = worker["config"]["baseJobTemplate"]["existingConfigMapName"]
    assert f"create configmap {template} --from-file=baseJobTemplate.json=" in README, "the chart's name for the key"
    server = VALUES["prefect-server"]
    assert worker["selfHostedServerApiConfig"]["apiUrl"].startswith(f"http://{server['fullnameOverride']}.slimline.svc")
    host = server["ingress"]["host"]["hostname"]
    assert server["server"]["uiConfig"]["prefectUiApiUrl"] == f"https://{host}/api"
    hosts = {entry["name"]: entry.get("value") for entry in entries(VALUES["mlflow"])}["MLFLOW_SERVER_ALLOWED_HOSTS"]
    (ingress,) = VALUES["mlflow"]["ingress"]["hosts"]
    assert ingress["host"] in hosts.split(",")
    assert f"{VALUES['mlflow']['fullnameOverride']}:5000" in hosts.split(",")


@pytest.mark.slow
@pytest.mark.parametrize("name", VALUES)
def test_the_chart_knows_every_value(name):
    chart = Path(os.environ.get("CHARTS", ""), name)
    if not (chart / "values.yaml").is_file():
        pytest.skip(f"CHARTS names no folder with the chart {name}")
    theirs = yaml.safe_load((chart / "values.yaml").read_text())

    def known(ours: object, theirs: object, where: str) -> None:
        if not isinstance(ours, dict):
            return
        for key, value in ours.items():
            assert isinstance(theirs, dict), where
            assert key in theirs, f"{where}.{key}: the chart has {sorted(theirs)}"
            if key not in FREE:
                known(value, theirs[key], f"{where}.{key}")

    known(VALUES[name], theirs, name)
    if (chart / "values.schema.json").is_file():
        merged = merge(theirs, VALUES[name])
        jsonschema.validate(merged, json.loads((chart / "values.schema.json").read_text()))


def merge(theirs: object, ours: object) -> object:
    """A chart's values with ours over them, as Helm takes them."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return {**theirs, **{key: merge(theirs.get(key), value) for key, value in ours.items()}}
    return ours
