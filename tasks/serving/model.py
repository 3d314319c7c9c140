"""The model as it is asked: a request's tensors are checked and answered."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from kserve import Model
from kserve.errors import InvalidInput, ModelNotFound, ModelNotReady
from kserve.metrics import PREDICT_HIST_TIME, PROM_LABELS, get_labels
from prometheus_client import REGISTRY, Gauge, Histogram

from tasks.contract.named import Array, by_name, packed
from tasks.formats.slimline_pyfunc import TensorSpec
from tasks.serving.admission import REFUSED
from tasks.serving.beside import Answered
from tasks.serving.limits import ServeConfig
from tasks.serving.protocol import Answer, Question, Tensor, datatype
from tasks.serving.served import SLOW, Served
from tasks.versions.labels import as_json

if TYPE_CHECKING:
    from tasks.serving.shadow import Shadow

SERVED = Gauge("slimline_served_version", "1 for the version that is served.", ["model", "version"])
WAITING = Gauge("slimline_waiting_requests", "Requests that wait for the runtime.")
REGISTRY.unregister(PREDICT_HIST_TIME)  # kserve's first bucket ends at 5 ms, and a small model takes 0.03
PREDICT = Histogram(
    "request_predict_seconds",
    "Time of a request's answer.",
    PROM_LABELS,
    buckets=[digit * 10.0**power for power in range(-5, 1) for digit in (1, 2, 5)] + [10.0],
)
BATCH = Histogram("slimline_request_examples", "Examples in a request.", buckets=(1, 2, 4, 8, 16, 32, 64, 256, 1024))
Waiting = tuple[Served, Array, "asyncio.Future[Array]"]

_all: "WeakSet[ServedModel]" = WeakSet()  # of this process
WAITING.set_function(lambda: sum(len(model.waiting) for model in _all))


class TooBusy(ModelNotReady):  # type: ignore[misc]  # kserve has no annotations
    """More is waiting than may wait: 503 over REST, UNAVAILABLE over gRPC."""

    def __init__(self, name: str, waiting: int) -> None:
        super().__init__(name, f"{waiting} requests are waiting already: ask again later, or start another server")
        self.reason = self.error_msg  # where kserve's gRPC interceptor looks for it


class NoSuchVersion(ModelNotFound):  # type: ignore[misc]
    """Another version than those that are served: 404 over REST, NOT_FOUND over gRPC."""

    def __init__(self, asked: str, served: "Sequence[ServedModel]") -> None:
        super().__init__(served[0].name)
        there = ", ".join(model.served.version for model in served)
        self.reason = (
            f"version {asked[:20]} of {served[0].name} is not served, and version {there} is: the registry's alias "
            "decides, so ask for no version, or start a server of that one"
        )


class ServedModel(Model):  # type: ignore[misc]
    """The version that is served now; another one takes its place by one assignment, between two requests.

    What is answered quickly is so between requests, where handing it to a thread would take longer than it does. A
    slower model, or many examples, is called in a thread beside them; if examples of several requests may share a call
    they do, up to `max_batch` of them: all that came while the last call was made.
    """

    def __init__(self, served: Served, config: ServeConfig) -> None:
        super().__init__(served.name)
        _all.add(self)
        self.take(served)
        self.max_batch = config.max_batch
        self.max_examples = config.max_examples
        self.max_waiting = config.max_waiting
        self.ready = True
        self.clock = PREDICT.labels(**get_labels(served.name))
        self.waiting: list[Waiting] = []
        self.at_work: asyncio.Task[None] | None = None
        self.thread = ThreadPoolExecutor(1, "onnxruntime")
        self.hears: list[Callable[[Answered], None]] = []  # what is answered, beside: empty, unless asked for
        self.shadow: Shadow | None = None

    def take(self, served: Served) -> None:
        """Serve this version from the next request on."""
        self.served = served
        SERVED.clear()
        for model in _all:
            SERVED.labels(model=model.served.name, version=model.served.version).set(1)

    def about(self) -> dict[str, Any]:
        """What it is called, takes and gives, in the protocol's words, and what its answers are called."""
        served = self.served
        return {
            "name": served.name,
            "versions": [served.version],
            "platform": "onnxruntime_onnx",
            "inputs": list(map(_described, served.inputs)),
            "outputs": list(map(_described, served.outputs)),
            "labels": as_json(served.labels),
        }

    async def answer(self, question: Question) -> Answer:
        """Answer one request.

        Raises:
            InvalidInput: its tensors are not what the model takes; says what is right.
            TooBusy: too many requests are waiting.

        """
        with self.clock.time():
            served = self.served  # what answers this request to its end, whatever takes its place meanwhile
            x = examples(question, served, self.max_examples)
            at_once = served.seconds * len(x) < SLOW
            answers = served.call(x) if at_once else await self._beside(served, x)
            BATCH.observe(len(x))
            for hear in self.hears:
                hear(Answered(served, x, answers))
            given = by_name(answers, [tensor.name for tensor in served.outputs])
            wishes = question.wishes or dict.fromkeys(given)
            # an output's own wish, else the request's, which holds for all
            outputs = [(name, given[name], question.binary if own is None else own) for name, own in wishes.items()]
            return Answer(question.id or str(uuid.uuid4()), served.name, served.version, outputs)

    async def _beside(self, served: Served, x: Array) -> Array:
        if len(self.waiting) >= self.max_waiting:
            REFUSED.inc()
            raise TooBusy(self.name, len(self.waiting))
        answer: asyncio.Future[Array] = asyncio.get_running_loop().create_future()
        self.waiting.append((served, x, answer))
        if self.at_work is None or self.at_work.done():
            self.at_work = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self.waiting:
            batch = self._next()
            served = batch[0][0]
            x = batch[0][1] if len(batch) == 1 else np.concatenate([each for _, each, _ in batch])
            try:
                answers = await loop.run_in_executor(self.thread, served.call, x)
            except Exception as error:  # the runtime's own: each of these requests gets it, and the next are answered
                for _, _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            start = 0
            for _, each, answer in batch:
                if not answer.done():  # its client may be gone
                    answer.set_result(answers[start : start + len(each)])
                start += len(each)

    def _next(self) -> list[Waiting]:
        """Requests that share the next call: those of one version, in order, as far as they fit."""
        taken, count = 1, len(self.waiting[0][1])
        served = self.waiting[0][0]
        while served.batch and taken < len(self.waiting):
            other, x, _ = self.waiting[taken]
            if other is not served or count + len(x) > self.max_batch:
                break
            taken, count = taken + 1, count + len(x)
        batch, self.waiting[:taken] = self.waiting[:taken], []
        return batch


def model_for(models: Sequence[ServedModel], name: str, version: str | None = None) -> ServedModel:
    """The model that is asked: by its name, and by its version where one is named; else the first of that name.

    Raises:
        ModelNotFound: it is not served here; NoSuchVersion where others of it are.

    """
    named = [model for model in models if model.name == name]
    if not named:
        raise ModelNotFound(name[:100])
    found = next((model for model in named if version in (None, "", model.served.version)), None)
    if found is None:
        raise NoSuchVersion(str(version), named)
    return found


def _described(tensor: TensorSpec) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": datatype(tensor.dtype), "shape": [-1, *tensor.shape]}


def examples(question: Question, served: Served, most: int) -> Array:
    """A request's examples `(n, …)`, or records of them where the model takes several tensors.

    Raises:
        InvalidInput: a tensor, a type, a shape or a value that the model does not take; says what is right.

    """
    names = [tensor.name for tensor in question.inputs]
    if sorted(names) != sorted(tensor.name for tensor in served.inputs):
        takes = "; ".join(map(_right, served.inputs))
        raise InvalidInput(f"inputs {names[:5]}: the model takes {_count(served.inputs)}: {takes}")
    for wished in question.wishes:
        if wished not in (gives := [tensor.name for tensor in served.outputs]):
            told = f"the model gives {_count(served.outputs)}, {', '.join(gives)}"
            raise InvalidInput(f"outputs: {wished[:100]!r}: {told}")
    sent = {tensor.name: tensor for tensor in question.inputs}
    tensors = {taken.name: _values(sent[taken.name], taken, most) for taken in served.inputs}
    if len(set(map(len, tensors.values()))) > 1:
        told = ", ".join(f"{name} {len(values)}" for name, values in tensors.items())
        raise InvalidInput(f"inputs of unlike many examples: {told}: send as many of each")
    x = packed(tensors)
    if served.unknown and (sentence := served.unknown(x)):
        raise InvalidInput(f"{', '.join(tensors)}: {sentence}")
    return x


@cache  # a request asks for each of its tensors, and a version's are the same as long as it serves
def _right(tensor: TensorSpec) -> str:
    return f"{tensor.name} is {datatype(tensor.dtype)} with the shape [{', '.join(map(str, ('n', *tensor.shape)))}]"


def _count(tensors: Sequence[TensorSpec]) -> str:
    return "one" if len(tensors) == 1 else str(len(tensors))


def _values(tensor: Tensor, taken: TensorSpec, most: int) -> Array:
    """A tensor's examples `(n, …)`; raises as `examples`."""
    name, right = taken.name, _right(taken)
    if tensor.datatype != datatype(taken.dtype):  # a byte for a float is no example that was learned from
        raise InvalidInput(f"{name}: datatype {str(tensor.datatype)[:20]!r}: {right}")
    shape = list(tensor.shape)
    if not shape or shape[0] < 1 or shape[1:] != list(taken.shape):
        raise InvalidInput(f"{name}: shape {shape[:8]}: {right}, n from 1")
    if shape[0] > most:
        raise InvalidInput(f"{name}: {shape[0]:,} examples: send no more than {most:,} at a time")
    if not _holds(tensor.data, KINDS[np.dtype(taken.dtype).kind]):
        raise InvalidInput(f"{name}: data hold what is no number of that type: {right}")
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
            x = np.ascontiguousarray(tensor.as_numpy(), taken.dtype)
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise InvalidInput(f"{name}: its data do not fill the shape {shape}: {str(error)[:200]}") from error
    if not np.isfinite(x).all():
        raise InvalidInput(f"{name}: holds NaN or infinity, which no example that it learned from had")
    return x


# What JSON's values are for tensors of NumPy's kinds, which would take `"1"` and `true` for 1, and make 1 of 1.5.
KINDS: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}


def _holds(data: Any, right: set[type]) -> bool:
    """Whether JSON's values, nested or not, are of these types. None is binary."""
    kinds = set(map(type, data)) if isinstance(data, list) else set()
    return kinds <= right or (kinds == {list} and all(_holds(each, right) for each in data))
