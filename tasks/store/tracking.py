"""The store and the memory: everything Slimline keeps is in MLflow, and this is the only module that imports it.

MLflow takes seconds to import, so it is imported when something is first kept or looked up, never with the recipe.
"""

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.contract.artifact import Artifact, digest_folder
from tasks.contract.errors import StoreError
from tasks.contract.named import Array, by_name
from tasks.contract.state_folder import home
from tasks.store import database
from tasks.store.metric_names import metric_name
from tasks.store.process import this_process

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run as Run  # for the modules beside this one

A = TypeVar("A", bound=Artifact)

KEY = "slimline.key"  # tag: the stage's cache key
RESULT = "slimline.result"  # tag: the artifact as JSON; set when the stage has it, so a run without it made nothing
FLOW_RUN = "prefect.flow_run_id"  # tag: the Prefect flow run
ROLE = "slimline.role"  # tag: `stage` on a stage's run, what kind of flow run it was on their parent
PROCESS = "slimline.process"  # tag: which process of which machine began a run, and when that process did
USED = "slimline.used"  # tag: when what a stage's run made was reused last, in seconds since 1970
NOTE = "mlflow.note.content"  # tag: the description that MLflow's page of a run begins with, in Markdown
NOT_THERE = "RESOURCE_DOES_NOT_EXIST"  # MLflow's word for it


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI` where it is set, else an SQLite file in the state folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def is_local() -> bool:
    """Whether the store is on this machine's disk, where artifacts can be read in place."""
    return tracking_uri().startswith("sqlite:")


@cache
def client() -> "MlflowClient":
    """The one connection of this process; makes the database on first use."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # table creation is nothing a person needs to read
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # the display shows what takes time
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # standard output may be one JSON object
    for way in ("UPLOAD", "DOWNLOAD"):  # else a server with a bucket sends its clients there, where they may not reach
        os.environ.setdefault(f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # MLflow warns on machines that have no git
    import mlflow

    if is_local():  # with a server there need be no libraries of databases: the image that serves has none
        from mlflow.store.db import utils

        tables: Any = utils  # MLflow has no annotations here
        file, head = Path(tracking_uri().removeprefix("sqlite:///")), tables._get_latest_schema_revision()
        database.make_ready(file, home() / "artifacts", head)
    mlflow.set_tracking_uri(tracking_uri())
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow.MlflowClient()


@contextmanager
def unless(*codes: str) -> Iterator[None]:
    """Pass over the block's failure if MLflow's reason for it is one of these, such as `RESOURCE_ALREADY_EXISTS`."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in codes:
            raise


@cache
def experiment() -> str:
    """The id of the experiment named by `MLFLOW_EXPERIMENT_NAME`, else `slimline`."""
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "slimline"
    existing = client().get_experiment_by_name(name)
    if existing is None:
        # a server decides itself where its artifacts go
        location = (home() / "artifacts").as_uri() if is_local() else None
        try:
            return str(client().create_experiment(name, artifact_location=location))
        except MlflowException:  # another worker was faster
            existing = client().get_experiment_by_name(name)
            if existing is None:
                raise
    return str(existing.experiment_id)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as MLflow parameters with dotted names."""
    flat: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = str(value)
    return flat


def start_run(name: str, tags: Mapping[str, str], parameters: Mapping[str, str], parent: str = "") -> str:
    """Open a run and say what it is; returns its id."""
    links = {"mlflow.parentRunId": parent} if parent else {}
    run = client().create_run(experiment(), run_name=name, tags={**tags, **links, PROCESS: this_process()})
    log_parameters(run.info.run_id, parameters)
    return str(run.info.run_id)


def log_parameters(run_id: str, parameters: Mapping[str, str]) -> None:
    """Parameters of a run; one that is there cannot get another value."""
    from mlflow.entities import Param

    entries = [Param(key, value[:6000]) for key, value in parameters.items()]
    for start in range(0, len(entries), 100):  # the tracking server takes 100 parameters a call
        client().log_batch(run_id, params=entries[start : start + 100])


def end_run(run_id: str, *, failed: bool) -> None:
    """Close a run; one that fails of what is no error, such as Ctrl-C or a worker's end, was killed."""
    failure = "FAILED" if isinstance(sys.exception(), Exception) else "KILLED"
    client().set_terminated(run_id, failure if failed else "FINISHED")


def find(key: str, kind: type[A]) -> A | None:
    """The artifact that a finished run made under this key, if its bytes are still what they were; else nothing."""
    runs = client().search_runs(
        [experiment()],
        f"tags.`{KEY}` = '{key}' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=10,
    )
    for run in runs:
        result = run.data.tags.get(RESULT)
        if result is None:
            continue
        artifact = kind.model_validate_json(result)
        try:
            _fetched[artifact.sha256] = _download(artifact)
        except StoreError:
            continue  # deleted or damaged since: it is made again, not handed on
        # MLflow takes no tag for a run that is marked as deleted, and `removal.remove` marks it before it looks at this
        # one: of a removal and a reuse at the same moment at least one sees the other
        with unless("INVALID_PARAMETER_VALUE", NOT_THERE):
            client().set_tag(run.info.run_id, USED, f"{time.time():.3f}")
            return artifact
    return None


_fetched: dict[str, Path] = {}


def fetch(artifact: Artifact) -> Path:
    """A local folder with the artifact's bytes, checked against its digest.

    Raises:
        StoreError: it is not in the store any more, or what is there is something else.

    """
    here = _fetched.get(artifact.sha256)
    if here is None or not here.is_dir() or digest_folder(here) != artifact.sha256:
        here = _fetched[artifact.sha256] = _download(artifact)
    return here


@cache
def _downloads() -> "tempfile.TemporaryDirectory[str]":
    """Where artifacts from a remote store go; it goes with the process."""
    return tempfile.TemporaryDirectory(prefix="slimline-")


def download(uri: str, into: Path | None = None) -> Path:
    """A local folder with what is at an address of the store; beneath `into` where it has to be copied.

    Raises:
        StoreError: nothing is there.

    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository

    try:
        client()
        if is_local() and uri.startswith("runs:/"):  # MLflow would copy what a run's address leads to
            uri = RunsArtifactRepository.get_underlying_uri(uri)
        # a store on this machine's disk is read in place: without a destination MLflow returns the path itself
        destination = None if is_local() else tempfile.mkdtemp(dir=into or _downloads().name)
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=destination))
    except (MlflowException, OSError) as error:
        raise StoreError(f"{uri} is not in the store: {error}") from error


def _download(artifact: Artifact) -> Path:
    local = download(artifact.uri)
    actual = digest_folder(local)
    if actual != artifact.sha256:
        raise StoreError(
            f"{artifact.stage}: {artifact.uri} holds sha256 {actual[:12]}…, what was kept had {artifact.sha256[:12]}…"
        )
    return local


def keep_model(run_id: str, name: str, folder: Path, tags: Mapping[str, str], parents: Sequence[str] = ()) -> str:
    """Put a model's files in the store as a LoggedModel of the run; returns its `models:/m-…` address.

    The model is READY only when every file has arrived.
    """
    from mlflow.entities import LoggedModelInput

    model = client().create_logged_model(experiment(), name=name, source_run_id=run_id, tags=dict(tags))
    client().log_model_artifacts(model.model_id, str(folder))
    client().finalize_logged_model(model.model_id, "READY")
    log_output(run_id, model.model_id)
    inputs = [LoggedModelInput(uri.removeprefix("models:/")) for uri in parents if uri.startswith("models:/m-")]
    if inputs:
        client().log_inputs(run_id, models=inputs)
    return f"models:/{model.model_id}"


def log_output(run_id: str, model: str) -> None:
    """Name a model among a run's outputs, whoever made it: MLflow's page of the run leads to it and its version."""
    from mlflow.entities import LoggedModelOutput

    client().log_outputs(run_id, [LoggedModelOutput(model.removeprefix("models:/"), step=0)])


def close_models(run_id: str) -> None:
    """Close models of a run whose files have not all arrived, and will not, as failed."""
    for model in client().search_logged_models([experiment()], f"source_run_id = '{run_id}'"):
        if not model.status.is_finalized(model.status):
            client().finalize_logged_model(model.model_id, "FAILED")


def keep_folder(run_id: str, folder: Path, name: str) -> str:
    """Put a folder of files among a run's artifacts; returns its `runs:/…` address."""
    client().log_artifacts(run_id, str(folder), name)
    return f"runs:/{run_id}/{name}"


def log_metrics(run_id: str, values: Mapping[str, float], *, step: int = 0, model: str = "", data: str = "") -> None:
    """Metrics of a run, and of the model and the data set that they are of, if named by address and digest."""
    from mlflow.entities import Metric

    named: dict[str, Any] = {"model_id": model.removeprefix("models:/")} if model else {}
    named |= {"dataset_name": "test", "dataset_digest": data[:32]} if data else {}
    now = int(time.time() * 1000)
    client().log_batch(
        run_id, metrics=[Metric(metric_name(name), float(value), now, step, **named) for name, value in values.items()]
    )


def log_dataset(run_id: str, name: str, digest: str, source: str, profile: Mapping[str, Any], context: str) -> None:
    """The data set that a run used, under our digest (its first 32 digits: what MLflow's database has room for)."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    entity = Dataset(name, digest[:32], "local", json.dumps({"uri": source}), profile=json.dumps(dict(profile)))
    used = [DatasetInput(entity, [InputTag("mlflow.data.context", context)])]
    try:
        client().log_inputs(run_id, used)
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        # MLflow looks for the data set and then adds it: another run did so in between, and now it is there
        client().log_inputs(run_id, used)


def log_figure(run_id: str, figure: "Figure", name: str) -> None:
    """A plot among a run's artifacts."""
    client().log_figure(run_id, figure, name)


def log_text(run_id: str, text: str, name: str) -> None:
    """A text file among a run's artifacts."""
    client().log_text(run_id, text, name)


def every_run() -> "list[Run]":
    """Every run of the experiment, those that are marked as deleted too."""
    from mlflow.entities import ViewType

    return list(paged(partial(client().search_runs, [experiment()], "", ViewType.ALL, max_results=1000)))


def paged(search: Callable[..., Any]) -> Iterator[Any]:
    """All that a search of MLflow's finds: it gives a page at a time."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def files_at(address: str) -> Any:
    """MLflow's hand on the files at an artifact address, wherever they are kept: lists and deletes them."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    client()
    return get_artifact_repository(address)


def set_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Tags of a run; one that is there is replaced."""
    for name, value in tags.items():
        client().set_tag(run_id, name, value)


@contextmanager
def system_metrics(run_id: str) -> Iterator[None]:
    """Processor, memory and disk of this machine, sampled into a run while the block lasts."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    interval = float(os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or 5)
    monitor: Any = SystemMetricsMonitor  # MLflow has no annotations here
    monitor = monitor(run_id, sampling_interval=interval)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


_parents: dict[str, str] = {}


def run_of_flow(flow_run: str) -> str:
    """The parent run of a Prefect flow run, empty if there is none: how a stage on any machine finds it."""
    if flow_run and flow_run not in _parents:
        runs = client().search_runs(
            [experiment()], f"tags.`{FLOW_RUN}` = '{flow_run}' and tags.`{ROLE}` != 'stage'", max_results=1
        )
        if runs:
            _parents[flow_run] = str(runs[0].info.run_id)
    return _parents.get(flow_run, "")


def save_model(
    folder: Path, source: Path, place: Path, example: Array, requirements: Sequence[str], profile: Mapping[str, Any]
) -> None:
    """Lay an MLflow model out, whose default flavour is the file `source` at its `place` in the folder.

    Its signature has the file's own names, in the profile's order, and a free batch axis; MLflow's of columns refuse
    whole numbers: left out. An ONNX file between two tensors is asked by MLflow itself, which has several in DataFrames
    only where each is a number; all else by `slimline_pyfunc`, which goes along with what encodes columns.
    """
    import mlflow
    import numpy as np
    import onnx
    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import Schema, TensorSpec

    from tasks.data.tables import slimline_columns
    from tasks.formats import slimline_pyfunc  # not above: all formats come with it

    file, loader = slimline_pyfunc.open_file(source, profile), Path(slimline_pyfunc.__file__)
    inputs, outputs = (
        Schema([TensorSpec(np.dtype(end.dtype), (-1, *end.shape), end.name) for end in ends])
        for ends in (file.inputs, file.outputs)
    )
    columns = list(profile.get("columns", ()))
    by_mlflow = source.suffix == ".onnx" and not columns and len(file.inputs) == len(file.outputs) == 1
    tensors = by_name(example, [end.name for end in file.inputs])
    options: dict[str, Any] = {
        "signature": ModelSignature(None if columns else inputs, outputs),
        "input_example": pd.DataFrame(example, columns=columns) if columns else tensors,
        "metadata": {"columns": columns} if columns else None,
        "pip_requirements": list(requirements),
        "code_paths": None if by_mlflow else [str(loader), slimline_columns.__file__],
    }
    if source.suffix == ".onnx":
        options |= {"onnx_execution_providers": ["CPUExecutionProvider"], "save_as_external_data": False}
        mlflow.onnx.save_model(onnx.load(source), folder, **options)
    else:
        mlflow.pyfunc.save_model(folder, loader_module=loader.stem, **options)
    about = Model.load(folder)
    if not by_mlflow:
        about.flavors["python_function"] |= {"loader_module": loader.stem, "data": place.as_posix()}
    if source.is_dir():
        about.add_flavor("tensorflow", model_type="tf2-module", saved_model_dir=place.as_posix())
    about.save(folder / "MLmodel")
