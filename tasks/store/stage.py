"""What every stage shares: reuse of what was made before, the MLflow run around it, artifact in, artifact out.

A stage is a function whose first parameter is a `StageRun`; the rest are artifacts, configs and numbers:

    @stage("prune")
    def prune_student(run: StageRun, student: ModelArtifact, config: PruneConfig, seed: int) -> ModelArtifact: ...

Called without its `StageRun`, it is a Prefect task that first looks for an artifact made from the same things.
"""

import functools
import inspect
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, get_type_hints

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import BaseModel

from tasks.contract.artifact import Artifact, EvidenceArtifact, Format, ModelArtifact, Precision, digest_folder
from tasks.contract.errors import InvalidInput, SlimlineError, StoreError
from tasks.contract.progress import listener
from tasks.contract.state_folder import alone, home
from tasks.store import tracking
from tasks.store.cache_key import cache_key
from tasks.store.pausing import Pause, Paused, is_due
from tasks.store.stage_runs import REUSED
from tasks.training.devices import on_processor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from prefect.tasks import Task

P = ParamSpec("P")
A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class StageRun:
    """The MLflow run of one stage that is at work, and where its files go.

    stage: its name, with its fields filled in. work: an empty folder, gone when the stage ends. checkpoints: a folder
    that is this key's, made by what writes there; gone when the stage has its artifact and not before. history: of each
    epoch, in order, with its number. pauses: whether its training is a student's, which `pausing` asks to wait.
    """

    stage: str
    run_id: str
    work: Path
    checkpoints: Path
    history: list[dict[str, float]]
    pauses: bool = False

    def epoch(self, epoch: int, epochs: int, values: Mapping[str, float]) -> None:
        """Tell of an epoch (counted from 1), whose checkpoint is saved: to whoever watches, and to MLflow.

        Raises:
            Paused: the training is to wait after this epoch.

        """
        listener().epoch(self.stage, epoch, epochs, dict(values))
        tracking.log_metrics(self.run_id, values, step=epoch)
        self.history.append({**values, "epoch": epoch})
        if self.pauses and is_due(epoch, epochs):
            score = self.best()["validation_score"]
            raise Paused(Pause(stage=self.stage, epoch=epoch, epochs=epochs, score=score))

    def best(self) -> dict[str, float]:
        """The figures of the best epoch by validation score, then loss: the one whose weights a training ends with."""
        best = self._best_epoch()
        return {name: best[name] for name in ("validation_score", "validation_loss") if name in best}

    def _best_epoch(self) -> dict[str, float]:
        scored = [each for each in self.history if "validation_score" in each]
        return max(scored, key=lambda each: (each["validation_score"], -each["validation_loss"]), default={})

    def tell(self, of_devices: str) -> None:
        """Keep with the run what it was trained on, where that is to be said, and tell whoever watches."""
        if of_devices and self.history:  # without an epoch nothing was trained
            tracking.set_tags(self.run_id, {"slimline.trained_on": of_devices})
            listener().note(self.stage, f"trained on {of_devices}")

    def figure(self, figure: "Figure", name: str) -> None:
        """Keep a plot with the run."""
        tracking.log_figure(self.run_id, figure, name)

    def keep(
        self,
        write: Callable[[Path], None],
        form: Format,
        *,
        precision: Precision = "float32",
        parent: ModelArtifact | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> ModelArtifact:
        """Have `write` fill a folder, and put it in the store by content."""
        folder = self.work / "kept"
        folder.mkdir()
        write(folder)
        digest = digest_folder(folder)
        tags = {
            "slimline.sha256": digest,
            "slimline.stage": self.stage,
            "slimline.format": form,
            "slimline.precision": precision,
        }
        uri = tracking.keep_model(self.run_id, self.stage, folder, tags, [parent.uri] if parent else [])
        if metrics:
            # at its own step: a curve has no point where no epoch was
            tracking.log_metrics(self.run_id, metrics, step=int(self._best_epoch().get("epoch", 0)), model=uri)
        return ModelArtifact(
            stage=self.stage,
            sha256=digest,
            uri=uri,
            run=self.run_id,
            format=form,
            precision=precision,
            parent=parent.sha256 if parent else None,
        )

    def keep_evidence(self, folder: Path) -> EvidenceArtifact:
        """Put a folder with what was measured, as JSON, and what shows it, in the store."""
        uri = tracking.keep_folder(self.run_id, folder, folder.name)
        return EvidenceArtifact(stage=self.stage, sha256=digest_folder(folder), uri=uri, run=self.run_id)


Rule = bool | Callable[[Mapping[str, Any]], bool]  # an answer, or a function that gives it of the arguments by name


def stage(
    name: str, *, reuse: Rule = True, measures: Rule = False, pauses: Rule = False
) -> Callable[[Callable[Concatenate[StageRun, P], A]], Callable[P, A]]:
    """Make a function a stage: a Prefect task with our cache rule and an MLflow run of its own.

    A hit shows as `Cached` in Prefect. The index of what was made is MLflow, not the result files of one worker, so a
    hit is a hit on every machine. Of two at once on one machine the second waits, and reuses what the first made.

    Args:
        name: with fields of the parameters, as in `convert-{target}`.
        reuse: whether what was made before is looked for. Without it the stage always runs: what it measures is this
            machine at this time; or what it makes of these arguments only running it can tell.
        measures: whether its result hangs on what this machine measured, so that another processor makes it anew.
        pauses: whether it trains a student, and so may pause, as `pausing` has it. A paused one shows as `Paused` in
            Prefect and as killed in MLflow, and goes on from its checkpoint when it is called again.

    """

    def decorate(function: Callable[Concatenate[StageRun, P], A]) -> Callable[P, A]:
        signature = inspect.signature(function)
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
        kind: type[A] = get_type_hints(function)["return"]

        @functools.wraps(function)
        def body(*args: P.args, **kwargs: P.kwargs) -> A | State[A] | State[Pause]:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            title = name.format(**bound.arguments)
            began = time.time()
            here = _answer(measures, bound.arguments)
            key = cache_key(name, function.__module__, bound.arguments, measured_here=here)
            parent = tracking.run_of_flow(str(flow_run.id or ""))
            again = _answer(reuse, bound.arguments)
            with _alone(title, key) if again else nullcontext():
                reused = tracking.find(key, kind) if again else None
                if reused is not None:
                    seconds = time.time() - began
                    _note_reuse(parent, title, reused, seconds)
                    listener().finished(title, seconds, reused.run)
                    return Completed(name="Cached", message=f"Reused from MLflow run {reused.run}", data=reused)
                listener().started(title)
                try:
                    artifact = _work(
                        title,
                        key,
                        parent,
                        lambda run: function(run, *args, **kwargs),
                        bound.arguments,
                        pauses=_answer(pauses, bound.arguments),
                    )
                except Paused as paused:
                    return Completed(name="Paused", message=str(paused), data=paused.pause)
            listener().finished(title, time.time() - began, "")
            return artifact

        body.__signature__ = signature  # type: ignore[attr-defined]  # Prefect reads the parameters from here
        prefect_task: Callable[P, Any] = task(
            name=name.split("-{")[0],
            task_run_name=name,
            cache_policy=NO_CACHE,  # the body has its own rule, see above
            persist_result=True,
            result_serializer="json",  # the default pickles
            retries=3,
            retry_delay_seconds=[2, 10, 30],
            retry_condition_fn=_can_help,
        )(body)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> A:
            result = prefect_task(*args, **kwargs)
            made: A | Pause = result.result() if isinstance(result, State) else result
            if isinstance(made, Pause):
                raise Paused(made)
            return made

        call.__signature__ = signature  # type: ignore[attr-defined]
        call.task = prefect_task  # type: ignore[attr-defined]  # for `.submit` and `.with_options`
        return call

    return decorate


def _answer(rule: Rule, arguments: Mapping[str, Any]) -> bool:
    return rule if isinstance(rule, bool) else rule(arguments)


def _alone(title: str, key: str) -> AbstractContextManager[None]:
    """What is trained goes on from the checkpoints of its key, so no two may write them."""
    file = home() / "checkpoints" / f"{key}.lock"
    return alone(file, lambda: listener().note(title, "another run is making the same, and this one waits for it"))


def _work(
    title: str,
    key: str,
    parent: str,
    function: Callable[[StageRun], A],
    arguments: Mapping[str, Any],
    *,
    pauses: bool,
) -> A:
    """Run the function inside an MLflow run; the tags that lead to it are written when it has its artifact."""
    tags = {tracking.ROLE: "stage", "slimline.stage": title, tracking.FLOW_RUN: str(flow_run.id or "")}
    run_id = tracking.start_run(title, tags, _parameters(arguments), parent)
    checkpoints = home() / "checkpoints" / key
    try:
        with tempfile.TemporaryDirectory(prefix=f"slimline-{title}-") as work, on_processor():
            artifact = function(StageRun(title, run_id, Path(work), checkpoints, [], pauses))
            artifact = artifact.model_copy(update={"key": key})
        tracking.set_tags(run_id, {tracking.RESULT: artifact.model_dump_json(), tracking.KEY: key})
    except BaseException:
        tracking.end_run(run_id, failed=True)
        raise
    tracking.end_run(run_id, failed=False)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return artifact


def _note_reuse(parent: str, title: str, reused: Artifact, seconds: float) -> None:
    if parent:
        note = {"run": reused.run, "seconds": round(seconds, 3), "at": int(time.time() * 1000)}
        tracking.set_tags(parent, {REUSED + title: json.dumps(note)})


def _parameters(arguments: Mapping[str, Any]) -> dict[str, str]:
    """A stage's inputs as MLflow parameters: settings by name, artifacts by digest; no dicts, and no texts of lines."""
    flat: dict[str, str] = {}
    for name, value in arguments.items():
        if isinstance(value, Artifact):
            flat[name] = f"{value.stage}:{value.sha256[:12]}"
        elif isinstance(value, BaseModel):
            flat |= tracking.flatten(value.model_dump(mode="json"), f"{name}.")
        elif isinstance(value, str | int | float | bool) and "\n" not in str(value):
            flat[name] = str(value)
    return flat


def _can_help(_task: "Task[Any, Any]", _run: TaskRun, state: State[Any]) -> bool:
    """A retry helps when the store or the network failed, never when the input or the computation is wrong."""
    try:
        state.result()
    except InvalidInput:
        return False
    except StoreError:
        return True
    except SlimlineError:
        return False
    except Exception as error:
        names = {cls.__name__ for cls in type(error).__mro__}
        status = getattr(error, "get_http_status_code", lambda: 0)()
        return isinstance(error, ConnectionError | TimeoutError) or "RequestException" in names or status >= 500
    return False
