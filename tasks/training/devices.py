"""What a training runs on: the processor alone, or accelerators, several at once, and partly in half precision.

On anything but the processor in float32 a copy of the model is trained: its variables lie where it computes, and its
layers compute as is asked. Only weights, which are float32, go back. So what a stage keeps is the ordinary model.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from tasks.contract.errors import RecipeError
from tasks.keras_graph.precision_policies import halved
from tasks.keras_graph.rebuild import carry, copied, is_adapted, kind, values_of

if TYPE_CHECKING:
    import tensorflow as tf

HIDDEN = "-1"  # what `tasks` sets CUDA_VISIBLE_DEVICES to

Batch = tuple[Any, ...]  # tensors (batch, …), tuples of them, and None for what there is not


class TrainingConfig(BaseModel, frozen=True, extra="forbid", title="Training"):
    """What the teacher, the student and a student with fewer channels are trained on.

    Training that makes zeros or gets used to integers stays on the processor, in float32.
    """

    devices: str = Field(
        "cpu",
        pattern="^(auto|cpu|gpu|[1-9][0-9]{0,3})$",
        description="The processor (cpu), which repeats bit by bit; every GPU (gpu); GPUs where there are some (auto); "
        "or a number of them: more share each batch, and are faster where fit.batch_size is large enough for all.",
        json_schema_extra={"position": 0},
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = Field(
        "float32",
        description="What layers compute in while they are trained: the two halves are faster on GPUs made for them, "
        "and coarser; float16 with its loss scaled. Weights, and what ships, are float32 with each.",
        json_schema_extra={"position": 1},
    )

    @property
    def plain(self) -> bool:
        """Whether it is the processor in float32: nothing has to be looked for, and the model itself is trained."""
        return self.devices == "cpu" and self.precision == "float32"


def check_devices(config: TrainingConfig) -> None:
    """Refuses devices that are not there; GPUs are hidden until a recipe asks for them.

    CUDA looks at its variable when TensorFlow is first asked for devices, so this comes before all other work. A person
    who sets CUDA_VISIBLE_DEVICES to anything but -1 has chosen already.

    Raises:
        RecipeError: fewer devices than are asked for.

    """
    if config.devices == "cpu":
        return
    if os.environ.get("CUDA_VISIBLE_DEVICES") == HIDDEN:
        del os.environ["CUDA_VISIBLE_DEVICES"]
    names(config)


def names(config: TrainingConfig) -> tuple[str, ...]:
    """The devices that a training takes, as TensorFlow calls them; none where it is the processor as it is.

    Raises:
        RecipeError: fewer than are asked for.

    """
    if config.devices == "cpu":
        return ()
    import tensorflow as tf

    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    if config.devices == "auto":
        return tuple(gpus)
    if config.devices == "gpu":
        if not gpus:
            raise RecipeError("training.devices", "gpu", f"TensorFlow finds no GPU here: {_WAY_OUT}")
        return tuple(gpus)
    found = gpus or [device.name for device in tf.config.list_logical_devices("CPU")]
    if int(config.devices) > len(found):
        there = f"{len(found)} GPU{'s' if len(found) > 1 else ''}" if gpus else "no GPU"
        raise RecipeError("training.devices", config.devices, f"TensorFlow finds {there} here: {_WAY_OUT}")
    return tuple(found[: int(config.devices)])


_WAY_OUT = (
    "write cpu, or auto, which takes what there is; or install NVIDIA's driver, `pip install 'tensorflow[and-cuda]'`, "
    "and look at CUDA_VISIBLE_DEVICES"
)


def trained_on(config: TrainingConfig) -> str:
    """What a person is told of a training that is not the processor's in float32, which needs no word."""
    if config.plain:
        return ""
    import tensorflow as tf

    taken = names(config)
    gpus = [name for name in taken if ":GPU:" in name]
    kinds = {
        tf.config.experimental.get_device_details(device).get("device_name", "GPU")
        for device in tf.config.list_physical_devices("GPU")[: len(gpus)]
    }
    where = f"{len(taken)} x {', '.join(sorted(kinds)) or 'CPU'}" if taken else "CPU"
    if not gpus:
        return f"{where}, {config.precision}: the same seed repeats bit by bit"
    return f"{where}, {config.precision}: the same seed gives another digest on other devices"


def on_processor() -> AbstractContextManager[Any]:
    """Keeps what is no training off the GPUs, where there may be some: evidence is measured on the processor."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == HIDDEN:
        return nullcontext()  # without importing TensorFlow
    import tensorflow as tf

    context: AbstractContextManager[Any] = tf.device("/CPU:0")
    return context


@dataclass(frozen=True)
class Replicas:
    """Where steps run: here, or on several devices, each of which has its part of every batch and all variables."""

    strategy: "tf.distribute.Strategy | None" = None
    precision: str = "float32"

    @property
    def identity(self) -> list[Any]:
        """What a training hangs on beside its config: nothing where it is the processor in float32."""
        count = self.strategy.num_replicas_in_sync if self.strategy is not None else 0
        return [count, self.precision] if count or self.precision != "float32" else []

    @property
    def _scales(self) -> bool:
        """Whether the loss is scaled: float16 has no small gradients (Micikevicius et al., 2018)."""
        return self.precision == "mixed_float16"

    def scaling(self, optimizer: Any) -> Any:
        """The optimizer, which leaves out steps whose gradients were too large for float16 and then scales by less."""
        import tensorflow as tf

        return tf.keras.mixed_precision.LossScaleOptimizer(optimizer) if self._scales else optimizer

    def scales(self, optimizer: Any) -> "list[tf.Variable]":
        """What it keeps for that beside the optimizer's own variables: the next step hangs on it."""
        return [optimizer._loss_scale.current_loss_scale, optimizer.dynamic_counter] if self._scales else []

    def scaled_up(self, loss: "tf.Tensor", optimizer: Any) -> "tf.Tensor":
        """The loss that gradients are taken of."""
        return optimizer.get_scaled_loss(loss) if self._scales else loss

    def scaled_down(self, gradients: "list[tf.Tensor | None]", optimizer: Any) -> "list[tf.Tensor | None]":
        """The gradients of the loss itself."""
        return optimizer.get_unscaled_gradients(gradients) if self._scales else gradients

    def total(self, figures: Callable[..., "tf.Tensor"], batch: Batch) -> "tf.Tensor":
        """What `figures(*parts, share)` gives, summed over the devices.

        Args:
            figures: takes the batch's parts and its share of the batch, by which its loss counts so that gradients sum
                up to those of the whole batch; None for all of it.
            batch: the whole one. Where it has fewer examples than there are devices, those that get none compute one
                that counts nothing.

        """
        if self.strategy is None:
            return figures(*batch, None)
        import tensorflow as tf

        with tf.device("/CPU:0"):  # each device then fetches its part only
            parts = _parts(batch, self.strategy.num_replicas_in_sync)

        def one() -> "tf.Tensor":
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            part, share, counts = parts[tf.get_static_value(replica)]
            return figures(*part, share) * counts

        return self.strategy.reduce("SUM", self.strategy.run(one), axis=None)

    def agree(self, variables: "list[tf.Variable]") -> None:
        """Gives variables that each device moves by itself their mean, which is also what a checkpoint has of them."""
        import tensorflow as tf

        for variable in variables if self.strategy is not None else ():
            if variable.synchronization == tf.VariableSynchronization.ON_READ:
                variable.assign(variable.numpy())


def _parts(batch: Batch, count: int) -> list[tuple[Batch, "tf.Tensor", "tf.Tensor"]]:
    """A batch cut into as many parts, as even as can be: the tensors, the share of the batch, and whether it counts."""
    import tensorflow as tf

    total = tf.shape(tf.nest.flatten(batch)[0])[0]
    parts = []
    for number in range(count):
        start, stop = total * number // count, total * (number + 1) // count
        end = tf.maximum(stop, start + 1)  # no layer has to make sense of no examples
        part = tf.nest.map_structure(lambda each: None if each is None else each[start:end], batch)  # noqa: B023  at once
        counts = tf.cast(stop > start, tf.float64)
        parts.append((part, tf.cast(stop - start, tf.float32) / tf.cast(total, tf.float32), counts))
    return parts


@contextmanager
def placed(model: "tf.keras.Model", config: TrainingConfig) -> Iterator[tuple["tf.keras.Model", Replicas]]:
    """The model as it is to be trained, and where; when the block ends, the model that was handed in has its weights.

    Batch normalization takes its means over the whole batch, whatever share of it a device has.
    """
    taken = names(config)
    if not taken and config.precision == "float32":
        yield model, Replicas()
        return
    import tensorflow as tf

    # gradients are added up on one device in their order: collective operations promise none, and one that is aborted
    # leaves the process unable to train again
    add_up = tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(taken, add_up) if taken else None
    with strategy.scope() if strategy else nullcontext():
        copy, pairs = _copy(model, config.precision, several=len(taken) > 1)
        yield copy, Replicas(strategy, config.precision)
    for ours, theirs in pairs:
        for variable, trained in zip(ours.weights, theirs.weights, strict=True):
            variable.assign(trained.numpy())


def _copy(
    model: "tf.keras.Model", precision: str, *, several: bool
) -> tuple["tf.keras.Model", list[tuple["tf.keras.layers.Layer", "tf.keras.layers.Layer"]]]:
    """A model with variables of its own, and each of its layers that has some beside the one it was copied from."""
    import tensorflow as tf

    half = halved(model) if precision != "float32" else frozenset()
    pairs = []

    def copy(layer: "tf.keras.layers.Layer") -> "tf.keras.layers.Layer":
        if getattr(layer, "_is_graph_network", False):
            return tf.keras.models.clone_model(layer, clone_function=copy)
        changes: dict[str, Any] = {"dtype": precision} if id(layer) in half else {}
        if several and kind(layer) == "BatchNormalization":
            changes["synchronized"] = True
        made = copied(layer, changes)
        pairs.append((layer, made))
        return made

    whole = copy(model)
    for ours, theirs in pairs:
        carry(theirs, values_of(ours))
    return whole, [(ours, theirs) for ours, theirs in pairs if ours.weights and not is_adapted(ours)]
