"""deployments/docker, compared with what can be known of it without Docker."""

import configparser
import json
import re
import shlex
import stat
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import compose_file
import pytest
from known_variables import names_of_mlflow, names_of_prefect
from packaging.requirements import Requirement

ROOT = compose_file.ROOT
FOLDER = compose_file.FOLDER
BIN = Path(sys.executable).parent
COMPOSE = compose_file.read()
SERVICES = COMPOSE["services"]
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
ONCE = {"prepare", "install"}  # they do something and end
OURS = {"slimline-server", "slimline-worker"}
ENVIRONMENTS = [(name, service.get("environment", {})) for name, service in SERVICES.items()]


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, **options)


def test_compose_keeps_the_specification():
    done = run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FOLDER / "compose.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_is_clean():
    done = run(BIN / "hadolint", FOLDER / "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_nothing_is_published_beyond_loopback():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(isinstance(port, str) and port.startswith("127.0.0.1:") for port in published), published


def test_links_lead_to_the_addresses_that_browsers_know():
    """Those of loopback, or of the proxy that stands before both servers; workers use the servers' own names."""
    here, proxied = (
        compose_file.read(**settings)["services"]
        for settings in ({}, {"PREFECT_URL": "https://prefect.example.org", "MLFLOW_URL": "https://mlflow.example.org"})
    )
    assert here["worker"]["environment"]["PREFECT_UI_URL"] == "http://127.0.0.1:4200/v2"
    assert here["worker"]["environment"]["SLIMLINE_MLFLOW_UI_URL"] == "http://127.0.0.1:5000"
    assert here["prefect"]["environment"]["PREFECT_UI_API_URL"] == "http://127.0.0.1:4200/api"
    assert proxied["worker"]["environment"]["PREFECT_UI_URL"] == "https://prefect.example.org/v2"
    assert proxied["worker"]["environment"]["SLIMLINE_MLFLOW_UI_URL"] == "https://mlflow.example.org"
    assert proxied["worker"]["environment"]["PREFECT_API_URL"] == "http://prefect:4200/api"
    assert proxied["prefect"]["environment"]["PREFECT_UI_API_URL"] == "https://prefect.example.org/api"


def test_images_are_pinned():
    images = {service["image"] for service in SERVICES.values()} - OURS
    bases = set(re.findall(r"^FROM (\S+:\S+)", DOCKERFILE, flags=re.MULTILINE))
    assert len(images) == 3
    assert len(bases) == 1, "both images are built and run on the same one"
    for image in images | bases:
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?(-\w+)*", image), f"{image} is not one release"
    stages = set(re.findall(r" AS (\S+)$", DOCKERFILE, flags=re.MULTILINE))
    built = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert built <= stages
    assert {f"slimline-{target}" for target in built} == OURS


def test_nobody_is_root():
    for name, service in SERVICES.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if service["image"] not in OURS:
            assert service["user"].split(":")[0] in ("postgres", "redis", "1000"), name
    for target in ("server", "serve", "worker"):
        stage = DOCKERFILE.split(f"FROM runtime AS {target}\n")[1].split("\nFROM ")[0]
        assert "\nUSER 10001:10001" in stage
    assert "--uid 10001 --gid 10001" in DOCKERFILE


def test_whoever_runs_on_is_asked_how_it_is():
    for name, service in SERVICES.items():
        if name in ONCE:
            assert service["restart"].startswith("on-failure"), name
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        check = service.get("healthcheck", {})
        if name == "prefect-services":
            assert check == {"disable": True}, "it has no port"
        elif name in ("worker", "operations"):
            assert "HEALTHCHECK" in DOCKERFILE.split("FROM runtime AS worker")[1]
        else:
            assert check["test"][0] == "CMD", name


def test_who_waits_waits_for_the_right_thing():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert how == {"condition": expected}, f"{name} waits for {other}"
            assert set(service["networks"]) & set(SERVICES[other]["networks"]) or other in ONCE, f"{name}, {other}"


def test_workers_of_a_host_measure_in_turn():
    place = SERVICES["worker"]["environment"]["SLIMLINE_MACHINE"]
    assert SERVICES["operations"]["environment"]["SLIMLINE_MACHINE"] == place
    assert SERVICES["operations"]["volumes"] == SERVICES["worker"]["volumes"]
    assert f"--owner 10001 --group 10001 {place}" in DOCKERFILE, "who is not root may lock a file in it"


def test_workers_reach_neither_databases_nor_the_store():
    reached = set(SERVICES["worker"]["networks"])
    for hidden in ("postgres", "redis", "s3", "prefect-services"):
        assert not reached & set(SERVICES[hidden]["networks"]), hidden
        assert all(COMPOSE["networks"][network]["internal"] for network in SERVICES[hidden]["networks"])
    shared = [volume for volume in SERVICES["worker"]["volumes"] if volume.split(":")[0] in COMPOSE["volumes"]]
    assert shared == [f"machine:{SERVICES['worker']['environment']['SLIMLINE_MACHINE']}"], "locks, and no data"
    assert SERVICES["worker"]["environment"]["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] == "false", (
        "or MLflow hands workers addresses of the store"
    )


@pytest.fixture(scope="module")
def secrets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "secrets"
    done = run(FOLDER / "make-secrets", folder)
    assert done.returncode == 0, done.stderr
    assert not [file for file in folder.iterdir() if file.read_text() in done.stdout], "it tells names, not values"
    return folder


def test_secrets_are_made_once_and_are_closed(secrets, tmp_path):
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    made = {file.name: file.read_text() for file in secrets.iterdir()}
    random = {name: value for name, value in made.items() if re.fullmatch(r"[0-9a-f]{48}", value)}
    assert len(random) == 9
    assert len(set(random.values())) == 9
    assert run(FOLDER / "make-secrets", secrets).stdout == ""
    assert {file.name: file.read_text() for file in secrets.iterdir()} == made
    (secrets / "mlflow_worker").unlink()
    assert run(FOLDER / "make-secrets", secrets).stdout.split() == ["made", str(secrets / "mlflow_worker")]
    assert (secrets / "mlflow_worker").read_text() != made["mlflow_worker"]
    identities = json.loads(made["s3_identities"])["identities"]
    assert identities[0]["credentials"] == [{"accessKey": made["s3_access_key"], "secretKey": made["s3_secret_key"]}]
    assert f":{made['redis_password']}@redis:6379" in made["redis_url"]


def test_every_secret_is_declared_made_and_used(secrets):
    declared = COMPOSE["secrets"]
    made = {file.name for file in secrets.iterdir()}
    assert {entry["file"] for entry in declared.values()} == {f"secrets/{name}" for name in declared}
    assert set(declared) == made - {"redis_password"}, "that one is inside redis_url and redis_users"
    assert set(declared) == {name for service in SERVICES.values() for name in service["secrets"]}
    script = (FOLDER / "databases.sql").read_text()
    for name, service in SERVICES.items():
        told = json.dumps([service.get("environment", {}), service.get("command", [])])
        named = set(re.findall(r"/run/secrets/(\w+)", told + (script if name == "postgres" else "")))
        assert named == set(service["secrets"]), name


def test_no_value_of_a_secret_is_in_any_file():
    secret = re.compile(r"PASSWORD|SECRET|AUTH_STRING|ACCESS_KEY|TOKEN|_URL$")
    for service, variables in ENVIRONMENTS:
        for name, value in variables.items():
            if name.endswith("_FILE"):
                assert value.startswith("/run/secrets/"), f"{service}: {name}"
            elif secret.search(name):
                assert re.fullmatch(r"http://[\w.:/]+", value), f"{service}: {name} has a value"
                assert "@" not in value
    for file in [*FOLDER.glob("*"), *(ROOT / "mlflow").glob("*"), *(ROOT / "deployments" / "kubernetes").glob("*")]:
        if file.is_file():
            assert not re.search(r"[0-9a-f]{32}|://\w+:\w+@(?!redis:6379/0' \"\$password)", file.read_text()), file
    assert run("git", "check-ignore", FOLDER / "secrets" / "redis_url", cwd=ROOT).returncode == 0
    assert "secrets" not in (ROOT / ".dockerignore").read_text().replace("with-secrets", "")


def test_the_users_file_holds_no_secret_and_mlflow_reads_it(monkeypatch):
    file = ROOT / "mlflow" / "basic_auth.ini"
    parser = configparser.ConfigParser()
    parser.read(file)
    import mlflow.server

    shipped = configparser.ConfigParser()
    shipped.read(Path(mlflow.server.__file__).parent / "auth" / "basic_auth.ini")
    assert set(parser["mlflow"]) <= set(shipped["mlflow"]), "settings that the installed MLflow knows"
    assert not [name for name in parser["mlflow"] if "password" in name]
    assert parser["mlflow"]["database_uri"] == "postgresql:///mlflow_auth"
    assert "CREATE DATABASE mlflow_auth OWNER mlflow" in (FOLDER / "databases.sql").read_text()


def test_every_variable_is_one_that_is_read():
    prefect_s, mlflow_s = names_of_prefect(), names_of_mlflow()
    assert "PREFECT_SERVER_DOCKET_URL" in prefect_s
    assert "PREFECT_SERVER_DOCKET_ADDRESS" not in prefect_s
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in mlflow_s
    others = {
        *("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD"),  # libpq: "Environment Variables" in PostgreSQL's documentation
        *("AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),  # boto3
        "SLIMLINE_MLFLOW_UI_URL",  # tasks/store/tracking.py
        "SLIMLINE_RECIPES",  # flows/shipped.py
        "SLIMLINE_MACHINE",  # flows/turn.py
        *("POSTGRES_PASSWORD", "POSTGRES_INITDB_ARGS"),  # the entrypoint of PostgreSQL's image
    }
    in_images = dict.fromkeys(re.findall(r"\b(?:PREFECT|MLFLOW)_[A-Z_]+(?==)", DOCKERFILE))
    for service, variables in [*ENVIRONMENTS, ("images", in_images)]:
        unknown = {name.removesuffix("_FILE") for name in variables} - prefect_s - mlflow_s - others
        assert not unknown, f"{service}: nothing reads {unknown}"


def test_mlflow_server_has_these_options():
    import mlflow.cli

    options = {name for option in mlflow.cli.server.params for name in (*option.opts, *option.secondary_opts)}
    told = [part.split("=")[0] for part in compose_file.command("mlflow")[2:]]
    assert told
    assert set(told) <= options


def with_secrets(folder: Path, *command: object, **variables: object) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "SECRETS_FOLDER": str(folder)}
    environment |= {name: str(value) for name, value in variables.items()}
    return run(FOLDER / "with-secrets", *command, env=environment)


def test_a_file_becomes_a_variable_and_nothing_else_is_touched(tmp_path):
    (tmp_path / "word").write_text('it\'s $HOME and `id`; "quoted" \\ %s')
    certificates = tmp_path.parent / "ca.pem"
    done = with_secrets(tmp_path, "env", WORD_FILE=tmp_path / "word", SSL_CERT_FILE=certificates, PLAIN="1")
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert seen["WORD"] == (tmp_path / "word").read_text(), "as it is: nothing in a secret is run"
    assert "WORD_FILE" not in seen
    assert seen["SSL_CERT_FILE"] == str(certificates)
    assert seen["PLAIN"] == "1"
    assert done.stderr == ""
    assert with_secrets(tmp_path, "sh", "-c", "exit 7").returncode == 7


def test_a_secret_that_is_not_there_stops_the_start(tmp_path):
    done = with_secrets(tmp_path, "echo", "started", WORD_FILE=tmp_path / "word")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "WORD_FILE" in done.stderr
    assert "make-secrets" in done.stderr


def test_what_the_images_install_is_in_the_lock():
    lock = (ROOT / "requirements.lock").read_text()
    locked = set(re.findall(r"^([a-z0-9-]+)==", lock, flags=re.MULTILINE))
    told = re.findall(r"--constraints requirements\.lock ((?!--).+)", DOCKERFILE)
    assert len(told) == 2, "the servers' image, and the one that serves"
    wanted = {Requirement(part).name for line in told for part in shlex.split(line)}
    for line in requires("mlflow"):
        extra = Requirement(line)
        if extra.marker and extra.marker.evaluate({"extra": "auth"}) and not extra.marker.evaluate({"extra": ""}):
            wanted.add(extra.name.lower())
    assert "flask-wtf" in wanted
    assert wanted <= locked, f"without a hash in requirements.lock: {sorted(wanted - locked)}"


def test_what_the_dockerfile_copies_reaches_the_builder():
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+)$", DOCKERFILE, flags=re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert len(sources) > 8
    let_in = [
        line[1:].removesuffix("/**") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source in let_in, f"{source} is left out by .dockerignore"
    assert all((ROOT / path).exists() for path in let_in)
