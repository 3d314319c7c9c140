"""deployments/kubernetes, compared with what can be known of it without a cluster."""

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import compose_file
import prefect
import yaml
from known_variables import names_of_mlflow, names_of_prefect
from prefect.utilities.templating import apply_values, find_placeholders

ROOT = compose_file.ROOT
FOLDER = ROOT / "deployments" / "kubernetes"
TEMPLATE = json.loads((FOLDER / "job_template.json").read_text())
SERVE = list(yaml.safe_load_all((FOLDER / "serve.yaml").read_text()))
FROM_GIT = json.loads((FOLDER / "own_from_git.json").read_text())
HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def held_by_kubernetes(folder: Path, **objects: dict) -> None:
    """Every field of each object is one that Kubernetes' own client knows of its kind: `V1Job=…`."""
    words = []
    for kind, content in objects.items():
        (folder / f"{kind}.json").write_text(json.dumps(content))
        words += [kind, str(folder / f"{kind}.json")]
    command = [sys.executable, str(ROOT / "tests" / "support" / "kubernetes_fields.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def container() -> dict:
    (only,) = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"]
    return only


def test_the_job_template_is_prefect_s_and_more():
    views = Path(prefect.__file__).parent / "server" / "api" / "collections_data" / "views"
    collections = json.loads((views / "aggregate-worker-metadata.json").read_text())
    shipped = collections["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    variables = TEMPLATE["variables"]["properties"]
    assert set(shipped["variables"]["properties"]) <= set(variables)
    for name, field in shipped["variables"]["properties"].items():
        assert variables[name].get("type") == field.get("type"), name
    assert set(shipped["job_configuration"]) <= set(TEMPLATE["job_configuration"])
    asked = {placeholder.name for placeholder in find_placeholders(TEMPLATE["job_configuration"])}
    assert asked == set(variables), "every variable is used, and none is used that there is not"
    with_default = {name for name, field in variables.items() if "default" in field}
    assert not with_default & set(TEMPLATE["variables"]["required"])

    def shape(template: object, ours: object, where: str) -> None:
        """All that Prefect's template has is here, with a placeholder or a value in the same place."""
        if isinstance(template, dict):
            for key, value in template.items():
                assert key in ours, f"{where}.{key}"
                shape(value, ours[key], f"{where}.{key}")
        elif isinstance(template, list):
            shape(template[0], ours[0], f"{where}[0]")

    shape(shipped["job_configuration"]["job_manifest"], TEMPLATE["job_configuration"]["job_manifest"], "job")


def test_pods_are_not_root_and_share_no_disk():
    pod = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001, "the Dockerfile's"
    assert pod["automountServiceAccountToken"] is False
    assert container()["securityContext"] == HARDENED
    volumes = rendered()["spec"]["template"]["spec"]["volumes"]
    assert [set(volume) for volume in volumes] == [{"name", "emptyDir"}] * 4
    assert {mount["name"] for mount in container()["volumeMounts"]} == {volume["name"] for volume in volumes}
    assert [mount["name"] for mount in container()["volumeMounts"] if mount.get("readOnly")] == ["data", "own"]


def test_pods_take_the_volumes_and_the_nodes_that_are_named(tmp_path):
    """Every field is one of Kubernetes' own, but two that Prefect's template has, and Kubernetes ignores there."""
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "slimline-data", "readOnly": True}}
    labels = {"kubernetes.io/arch": "amd64"}
    known = {"image": "slimline-worker", "mlflow_url": "https://mlflow", "labels": {}}
    job = rendered(data_volume=claim, node_selector=labels, **known)
    assert claim in job["spec"]["template"]["spec"]["volumes"]
    assert job["spec"]["template"]["spec"]["nodeSelector"] == labels
    from_git = rendered(**FROM_GIT, **known)
    for each in (job, from_git):
        for ignored in ("parallelism", "completions"):
            del each["spec"]["template"]["spec"][ignored]
        held_by_kubernetes(tmp_path, V1Job=each)


def test_pods_share_no_node_with_what_measures_but_that_of_a_rollback():
    from flows import deployed, verify

    flows = {getattr(deployed, name).name for name in deployed.__all__} | {verify.verify.name}
    pod = rendered()["spec"]["template"]["spec"]
    (rule,) = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (chosen,) = rule["labelSelector"]["matchExpressions"]
    assert (rule["topologyKey"], chosen["key"]) == ("kubernetes.io/hostname", "prefect.io/flow-name"), "Prefect's label"
    assert set(chosen["values"]) == flows - {"rollback"}
    assert rendered(affinity={})["spec"]["template"]["spec"]["affinity"] == {}


def test_a_repository_of_one_s_own_is_cloned_at_its_commit_before_the_run_begins(tmp_path):
    """By the container's own command line, on this machine."""
    git = partial(subprocess.run, cwd=tmp_path / "theirs", check=True, capture_output=True, text=True)
    (tmp_path / "theirs").mkdir()
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    git(["git", "init", "--quiet"])
    for width in ("1", "2"):
        (tmp_path / "theirs" / "zoo.py").write_text(f"WIDTH = {width}\n")
        git(["git", "add", "zoo.py"])
        git(["git", *who, "commit", "--quiet", "-m", width])
    first = git(["git", "rev-parse", "HEAD~1"]).stdout.strip()
    (only,) = FROM_GIT["init_containers"]
    values = {entry["name"]: entry["value"] for entry in only["env"]}
    assert set(values) == {"REPOSITORY", "COMMIT", "HOME"}
    command = [*only["command"], *(text.replace("/own", str(tmp_path / "own")) for text in only["args"])]
    own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "REPOSITORY": str(tmp_path / "theirs"), "COMMIT": first}
    subprocess.run(command, env=own, check=True, capture_output=True)
    assert (tmp_path / "own" / "zoo.py").read_text() == "WIDTH = 1\n", "that commit, and not the branch's last"
    assert subprocess.run(command, env={**own, "COMMIT": "0" * 40}, capture_output=True).returncode != 0
    assert only["securityContext"] == HARDENED
    pod = rendered(**FROM_GIT)["spec"]["template"]["spec"]
    assert pod["initContainers"] == [only]
    assert {mount["name"] for mount in only["volumeMounts"]} <= {volume["name"] for volume in pod["volumes"]}
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", only["image"]), "one release"


def rendered(**values: object) -> dict:
    """The manifest of a job, as Prefect fills it in."""
    variables = TEMPLATE["variables"]["properties"]
    defaults = {name: field["default"] for name, field in variables.items() if "default" in field}
    return apply_values(TEMPLATE["job_configuration"]["job_manifest"], {**defaults, **values})


def test_pods_get_passwords_by_reference():
    secrets = compose_file.read()["secrets"]
    for entry in container()["env"]:
        if re.search("PASSWORD|AUTH_STRING", entry["name"]):
            assert set(entry["valueFrom"]) == {"secretKeyRef"}, entry["name"]
            assert entry["valueFrom"]["secretKeyRef"]["key"] in secrets, "the key is the file's name"
    assert {"PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_PASSWORD"} <= {entry["name"] for entry in container()["env"]}


def test_what_serves_keeps_kubernetes_fields_and_is_not_root(tmp_path):
    deployment, service, budget = SERVE
    held_by_kubernetes(tmp_path, V1Deployment=deployment, V1Service=service, V1PodDisruptionBudget=budget)
    pod = deployment["spec"]["template"]["spec"]
    (serve,) = pod["containers"]
    assert serve["securityContext"] == HARDENED
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001, "the Dockerfile's"
    assert pod["automountServiceAccountToken"] is False
    writable = {mount["mountPath"] for mount in serve["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp"}
    stage = (compose_file.FOLDER / "Dockerfile").read_text().split("FROM runtime AS serve\n")[1].split("\nFROM ")[0]
    assert "ENV HOME=/tmp SLIMLINE_HOME=/tmp/slimline" in stage
    assert {mount["name"] for mount in serve["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_what_serves_is_found_by_its_labels_under_every_name():
    for text in ((FOLDER / "serve.yaml").read_text(), (FOLDER / "serve.yaml").read_text().replace("digits", "flowers")):
        deployment, service, budget = yaml.safe_load_all(text)
        name = deployment["metadata"]["name"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == name == service["metadata"]["name"]
        for selector in (deployment["spec"]["selector"], budget["spec"]["selector"]):
            assert selector == {"matchLabels": labels}
        assert service["spec"]["selector"] == labels
        ports = {port["name"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    assert name == "serve-flowers"
    assert "digits" not in json.dumps([deployment, service, budget])


def test_what_serves_is_not_killed_before_it_has_said_goodbye():
    from tasks.serving.limits import ServeConfig

    pod = SERVE[0]["spec"]["template"]["spec"]
    fields = ServeConfig.model_fields
    goodbye = fields["goodbye_seconds"].default + fields["grace_seconds"].default
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= before + goodbye + 5


def test_every_variable_of_pods_is_one_that_is_read():
    known = names_of_prefect() | names_of_mlflow() | {"SLIMLINE_MLFLOW_UI_URL", "SLIMLINE_RECIPES"}
    for variables in (
        [entry["name"] for entry in container()["env"]],
        TEMPLATE["variables"]["properties"]["env"]["default"],
    ):
        assert not set(variables) - known
    known.add("FORWARDED_ALLOW_IPS")  # uvicorn's
    (serve,) = SERVE[0]["spec"]["template"]["spec"]["containers"]
    asked = {name for text in serve["args"] for name in re.findall(r"\$\((\w+)\)", text)}
    assert {entry["name"] for entry in serve["env"]} - known == asked, "the rest stands in the command"
