"""Models: architectures by name, and the way from a config to a model that fits the data."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from tasks.contract.artifact import digest_file, digest_folder
from tasks.contract.errors import ModelError
from tasks.contract.own_function import NAME as FUNCTION
from tasks.contract.problem import Problem, one_for_two
from tasks.data import Dataset
from tasks.data.heads import Head
from tasks.formats.keras.brought_file import ModelFile, look
from tasks.formats.keras.ends import Shape, check_counts, fits
from tasks.zoo import (
    autoencoder,
    cnn,
    ds_cnn,
    efficientnet_lite,
    lstm,
    mlp,
    mobilenet,
    mobilenet_v2,
    resnet6,
    resnet8,
    tcn,
    transformer,
    unet,
    words,
)
from tasks.zoo.brought import Brought, bring, source_of
from tasks.zoo.ends import ModelEnds, ends_of

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Brought",
    "ModelConfig",
    "ModelEnds",
    "bring_model",
    "build_model",
    "check_model",
    "ends_of",
]

OF_WORDS = "the words of a table's column of texts, which data.table.texts names"
PREDICTING: tuple[Problem, ...] = ("classification", "multilabel", "regression")


@dataclass(frozen=True)
class Architecture:
    """One way to build a model.

    build: from the ends that fit the data and a width, which multiplies the channels; of a deep one also from a depth.
    problems: what it can solve.
    rank: axes of an example: 3 for an image `(height, width, channels)`; 2 for a sequence `(steps, values)`; 0 takes
        any shape, flattened.
    smallest: height and width that an image must have at least.
    steps: 0, or what both must be a multiple of, for one that answers at each pixel.
    of_words: whether its input is, or may be where it takes sequences, the ids of words.
    deep: whether it has blocks whose number a depth multiplies.
    """

    name: str
    build: Callable[..., "tf.keras.Model"]
    problems: tuple[Problem, ...] = PREDICTING
    rank: int = 3
    smallest: int = 4
    steps: int = 0
    of_words: bool = False
    deep: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture("cnn", cnn.build),
        Architecture("mlp", mlp.build, rank=0),
        Architecture("resnet8", resnet8.build),
        Architecture("resnet6", resnet6.build),
        Architecture("ds_cnn", ds_cnn.build, smallest=2),
        Architecture("mobilenet", mobilenet.build, smallest=32),
        Architecture("mobilenet_v2", mobilenet_v2.build, smallest=32, deep=True),
        Architecture("efficientnet_lite", efficientnet_lite.build, smallest=32, deep=True),
        Architecture("unet", unet.build, problems=("classification", "regression", "reconstruction"), steps=4),
        Architecture("autoencoder", autoencoder.build, problems=("reconstruction",), rank=0),
        Architecture("words", words.build, rank=1, of_words=True),
        Architecture("tcn", tcn.build, rank=2, of_words=True, deep=True),
        Architecture("lstm", lstm.build, rank=2, of_words=True, deep=True),
        Architecture("transformer", transformer.build, rank=2, of_words=True, deep=True),
    )
}


class ModelConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Which model."""

    model: str = Field(
        "cnn",
        min_length=1,
        description=f"One of the zoo ({', '.join(ARCHITECTURES)}), a file (.h5, .keras, SavedModel folder), or a "
        "function of yours, package.module:function.",
        json_schema_extra={"position": 0},
    )
    width: float = Field(
        1.0,
        gt=0,
        le=8,
        description="Multiplies a zoo model's channels: twice as wide is about four times as large, and more accurate.",
        json_schema_extra={"position": 1},
    )
    depth: float = Field(
        1.0,
        gt=0,
        le=8,
        description="Multiplies how often the blocks of a zoo model stand, where they repeat: deeper is slower, and "
        "more accurate.",
        json_schema_extra={"position": 2},
    )
    trust: bool = Field(
        False,
        description="Run code that a model file brings, such as Lambda layers: it can do anything that you can.",
        json_schema_extra={"position": 3},
    )

    @property
    def brought(self) -> bool:
        """Whether it is somebody's own, and none of the zoo's."""
        return self.model not in ARCHITECTURES

    @property
    def called(self) -> bool:
        """Whether a function has to be called to know what it gives."""
        return self.brought and FUNCTION.fullmatch(self.model) is not None

    @property
    def runs_code(self) -> bool:
        """Whether code decides what it gives that is not in its file: a function, or classes that a file names."""
        return self.called or (self.brought and self.trust)

    def fingerprint(self) -> str:
        """What decides the model besides the data, whatever the path: sha256 in hexadecimal.

        Raises:
            ModelError: there is no such file or module.

        """
        if self.model in ARCHITECTURES:
            identity = f"zoo {self.model} {self.width!r}" + (f" {self.depth!r}" if self.depth != 1 else "")
        elif FUNCTION.fullmatch(self.model):
            identity = f"function {self.model} {digest_file(source_of(self.model, 'model'))}"
        else:
            path = _path(self.model, "model")
            identity = f"file {digest_folder(path) if path.is_dir() else digest_file(path)}"
        return hashlib.sha256(identity.encode()).hexdigest()


def check_model(config: ModelConfig, inputs: Mapping[str, Shape], heads: Sequence[Head], field: str = "model") -> None:
    """Hold a model against the data before anything runs, with TensorFlow only where nothing else tells.

    Args:
        config: which model.
        inputs: the shape of one example, by the name of each of the data's inputs.
        heads: what its outputs are to be.
        field: the recipe's name for the config, such as `teacher`, for messages.

    Raises:
        ModelError: no such model, unsafe, damaged, or not made for these data; names the field and the way out.

    """
    where = f"{field}.model"
    if config.model in ARCHITECTURES:
        _check_architecture(config, inputs, heads, field)
    elif FUNCTION.fullmatch(config.model):
        bring(config.model, inputs, heads, trust=config.trust, field=where)
    else:
        file = look(_path(config.model, where), trust=config.trust, field=where)
        if file.kind == "savedmodel":
            bring(config.model, inputs, heads, trust=config.trust, field=where)
        else:
            _check_file(file, inputs, heads, config.model, where)


def _check_file(file: ModelFile, inputs: Mapping[str, Shape], heads: Sequence[Head], name: str, field: str) -> None:
    """Hold what a file's config says against the data; of several inputs or outputs, how many they are."""
    check_counts(*file.ends, list(inputs), [head.name for head in heads], name, field)
    (shape, *more), (head, *others) = inputs.values(), heads
    if not more and file.input_shape is not None and not fits(file.input_shape, shape):
        raise ModelError(field, name, f"takes examples of shape {file.input_shape}; the data's have {shape}")
    units = head.output_shape[-1]
    one = head.problem == "classification" and one_for_two((file.output_units,), (units,))
    if not others and file.output_units not in (None, units) and not one:
        raise ModelError(field, name, f"gives {file.output_units} values; a {head.problem} of these data needs {units}")


def build_model(config: ModelConfig, data: Dataset, *, seed: int, field: str = "model") -> "tf.keras.Model":
    """The model that a config names, for these data: float32 raw values `(batch, *input_shape)` in.

    Out comes a value for each class `(batch, …, classes)` or label, of a zoo model its probability, or raw values
    `(batch, *output_shape)`. A zoo model's first layer scales raw values as the data's config asks, and its last gives
    raw units back; a model that is brought does so itself.

    Args:
        config: which model.
        data: what it has to fit.
        seed: of the initial weights.
        field: the recipe's name for the config, for messages.

    Raises:
        ModelError: as `check_model`.

    """
    import tensorflow as tf

    tf.keras.utils.set_random_seed(seed)
    if config.brought:
        return bring_model(config, data, field).model
    architecture = ARCHITECTURES[config.model]
    _check_architecture(config, data.input_shapes, data.heads, field)
    if len(next(iter(data.input_shapes.values()))) == 1 and architecture.of_words and not data.ids:
        own = "For ids of your own bring a model with an Embedding, which says how many there are"
        remedy = f"takes {_taken(architecture)}. {own}"
        raise ModelError(f"{field}.model", architecture.name, remedy)
    return architecture.build(ends_of(data), config.width, **({"depth": config.depth} if architecture.deep else {}))


def bring_model(config: ModelConfig, data: Dataset, field: str = "model") -> Brought:
    """The model that a config names if it is none of the zoo's, as it came and for these data.

    Raises:
        ModelError: as `check_model`.

    """
    where = f"{field}.model"
    if not FUNCTION.fullmatch(config.model):
        _path(config.model, where)
    return bring(config.model, data.input_shapes, data.heads, trust=config.trust, field=where)


def _check_architecture(
    config: ModelConfig, inputs: Mapping[str, tuple[int, ...]], heads: Sequence[Head], field: str
) -> None:
    architecture = ARCHITECTURES[config.model]
    if config.depth != 1 and not architecture.deep:
        deep = ", ".join(known.name for known in ARCHITECTURES.values() if known.deep)
        raise ModelError(f"{field}.depth", config.depth, f"`{architecture.name}` is always as deep; of others: {deep}")
    field = f"{field}.model"
    for problem in (head.problem for head in heads if head.problem not in architecture.problems):
        able = [known.name for known in ARCHITECTURES.values() if problem in known.problems]
        raise ModelError(field, architecture.name, f"is not made for {problem}; these are: {', '.join(able)}")
    if architecture.rank and len(inputs) > 1:
        raise ModelError(
            field, architecture.name, f"takes one input, and the data have {', '.join(inputs)}: `mlp` takes any"
        )
    input_shape = next(iter(inputs.values()))
    words = architecture.of_words and len(input_shape) == 1
    if architecture.rank and len(input_shape) != architecture.rank and not words:
        raise ModelError(
            field,
            architecture.name,
            f"takes {_taken(architecture)}; the data's examples have shape {input_shape}; `mlp` takes any",
        )
    if architecture.rank == 3 and min(input_shape[:2]) < architecture.smallest:
        raise ModelError(
            field,
            architecture.name,
            f"needs images of at least {architecture.smallest}x{architecture.smallest}; the data's have shape "
            f"{input_shape}",
        )
    for output_shape in (head.output_shape for head in heads if architecture.steps):
        if output_shape[:-1] != input_shape[:-1]:
            raise ModelError(
                field,
                architecture.name,
                f"answers at each pixel of images {input_shape}; the targets are of shape {output_shape}: `cnn` gives "
                "one answer for an image",
            )
    if architecture.steps and any(size % architecture.steps for size in input_shape[:2]):
        raise ModelError(
            field,
            architecture.name,
            f"needs a height and width that are multiples of {architecture.steps}; the data's have shape {input_shape}",
        )


def _taken(architecture: Architecture) -> str:
    """What an architecture takes that does not take any shape."""
    if architecture.rank == 3:
        return "images of shape (height, width, channels)"
    return OF_WORDS if architecture.rank == 1 else f"sequences of shape (steps, values), or {OF_WORDS}"


def _path(name: str, field: str) -> Path:
    path = Path(name).expanduser()
    if path.exists():
        return path
    raise ModelError(
        field,
        name,
        f"is neither a model of the zoo ({', '.join(ARCHITECTURES)}) nor a file that is there (.h5, .keras, SavedModel "
        "folder) nor package.module:function",
    )
