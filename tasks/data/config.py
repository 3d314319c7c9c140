"""Which data are read, how they are split, and how a training sees them."""

from typing import Literal, Self

from pydantic import BaseModel, Field, JsonValue, model_validator

from tasks.contract import own_function
from tasks.contract.artifact import digest_file
from tasks.contract.named import ONE
from tasks.contract.problem import Problem
from tasks.data.address import Address
from tasks.data.mistakes import MistakesConfig
from tasks.data.tables.config import TableConfig

ReaderName = Literal[
    "digits",
    "shapes",
    "sklearn",
    "keras",
    "npz",
    "parquet",
    "folder",
    "table",
    "tfrecord",
    "huggingface",
    "tfds",
    "function",
]

FeatureType = Literal[
    "numbers", "image", "text", "tensor", "uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32"
]

# What decides how a model is trained, but not which examples there are.
TREATMENT = ("scaling", "flip", "shift", "brightness", "mixup", "cutmix", "mistakes", "loss", "views", "memory_mib")
NAME = r"^[A-Za-z_]\w*$"  # of an output: what every runtime takes for a tensor's
FUNCTION = rf"^({own_function.NAME.pattern})?$"
LOSS = (
    "A loss of yours, package.module:function, that takes the place of cross-entropy or the squared error: it is given "
    "TensorFlow's tensors of the right answers and the model's (probabilities, shares of labels, or values), and gives "
    "what each example costs, (examples,) or (examples, …)."
)


def at(position: int) -> dict[str, JsonValue]:
    """The field's place in a form; without it Prefect sorts by name."""
    return {"position": position}


class Feature(BaseModel, frozen=True, extra="forbid", title="Feature"):
    """What a feature of a TFRecord is."""

    name: str = Field(min_length=1, description="Its name in the records.", json_schema_extra=at(0))
    type: FeatureType = Field(
        "numbers",
        description="Lists of numbers, an encoded image, a text, a tensor of tf.io.serialize_tensor, or the bytes of "
        "an array of this type.",
        json_schema_extra=at(1),
    )
    shape: tuple[int, ...] = Field(
        (), description="Of one example. Empty: as many values as the first record has.", json_schema_extra=at(2)
    )


class HeadConfig(BaseModel, frozen=True, extra="forbid", title="Output"):
    """One of several outputs of a model: what it is to answer."""

    name: str = Field(pattern=NAME, description="What the model calls the output.", json_schema_extra=at(0))
    problem: Problem = Field(
        "classification", description="Classes, labels, numbers, or the input itself.", json_schema_extra=at(1)
    )
    target: str = Field(
        "",
        description="Where its labels are, as data.target says it of one output. Empty: where its name says.",
        json_schema_extra=at(2),
    )
    classes: tuple[str, ...] = Field(
        (), description="Class names in label order; as data.classes.", json_schema_extra=at(3)
    )
    weight: float = Field(
        1.0,
        gt=0,
        le=1_000_000,
        description="What its loss counts beside the others'. More fits this output better, and the others worse.",
        json_schema_extra=at(4),
    )
    loss: str = Field("", pattern=FUNCTION, description="As data.loss.", json_schema_extra=at(5))


class DataConfig(BaseModel, frozen=True, extra="forbid", title="Data"):
    """Which examples a compression learns from and is measured on."""

    reader: ReaderName = Field(
        default="digits",
        description="What reads the source: scikit-learn's handwritten digits or one of its tables, drawn shapes with "
        "a class for each pixel, a tf.keras.datasets name, an .npz file, Parquet with encoded images, a folder of "
        "images or sounds, a table (CSV, Parquet, ORC, JSON lines), TFRecords, a name of Hugging Face's datasets or of "
        "tensorflow_datasets, or a Python function.",
        json_schema_extra=at(0),
    )
    source: Address = Field(
        default="",
        description="A path, an address such as s3://bucket/folder, a name of scikit-learn or tf.keras.datasets, or "
        "package.module:function. Digits and shapes need none.",
        json_schema_extra=at(1),
    )
    test_source: Address = Field(
        default="",
        description="A file or folder of its own for the test split, read like the source. Empty: the source's own "
        "split, or a share of it.",
        json_schema_extra=at(2),
    )
    problem: Problem = Field(
        default="classification",
        description="Classes, numbers, or the input itself: decides losses, metrics and what a target may be.",
        json_schema_extra=at(3),
    )
    input: str = Field(
        default="",
        description="Where the inputs are: a column (Parquet; 'image' when empty), a key (.npz; 'x' when empty), or "
        "the columns of a table separated by commas (when empty all but the target and what has no name).",
        json_schema_extra=at(4),
    )
    target: str = Field(
        default="",
        description="Where the labels are: a column ('label' when empty), a key (.npz; 'y' when empty), or several "
        "columns of a table separated by commas for a regression.",
        json_schema_extra=at(5),
    )
    classes: tuple[str, ...] = Field(
        default=(),
        description="Class names in label order. Empty: what the source says, else the sorted labels. "
        "Labels that leave out a number after 0 are read as they stand where they are named here.",
        json_schema_extra=at(6),
    )
    validation: float = Field(
        default=0.15,
        gt=0,
        le=0.45,
        description="Share kept for choosing the best epoch, unless the source has such a split. More makes that "
        "choice surer and leaves less to learn from.",
        json_schema_extra=at(7),
    )
    test: float = Field(
        default=0.15,
        gt=0,
        le=0.45,
        description="Share kept for the evidence, unless the source has such a split. More makes the intervals "
        "narrower and leaves less to learn from.",
        json_schema_extra=at(8),
    )
    split_seed: int = Field(
        default=0,
        ge=0,
        lt=2**63,
        description="Another number draws other examples into validation and test.",
        json_schema_extra=at(9),
    )
    group: str = Field(
        default="",
        description="A column or key that says what belongs together, such as a patient or a file: no group stands in "
        "two splits. It is no input, unless data.input names it.",
        json_schema_extra=at(10),
    )
    time: str = Field(
        default="",
        description="A column or key of dates or numbers to split by: the last examples are the test split, those "
        "before them validation. It is no input, unless data.input names it.",
        json_schema_extra=at(11),
    )
    slice: str = Field(
        default="",
        description="A column or key by which the evidence is shown in slices, such as a site: each has a score and a "
        "drop of its own, as a mean hides one that lost. It is no input, unless data.input names it.",
        json_schema_extra=at(12),
    )
    limit: int = Field(
        default=0,
        ge=0,
        description="Use only the first so many examples of each part of the source; 0 uses all. More is slower and "
        "more accurate.",
        json_schema_extra=at(13),
    )
    image_size: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Resize encoded images to a square of so many pixels; 0 keeps their size. Larger shows a model "
        "more, and makes it slower.",
        json_schema_extra=at(14),
    )
    color: Literal["auto", "grey", "rgb"] = Field(
        default="auto",
        description="Channels of encoded images: one, three, or as the first image has them.",
        json_schema_extra=at(15),
    )
    seconds: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="Cut sounds to so many seconds, and fill shorter ones with silence; 0 keeps their length, which "
        "has to be the same. More shows a model more, and makes it slower.",
        json_schema_extra=at(16),
    )
    mel: int = Field(
        default=0,
        ge=0,
        le=512,
        description="Bands of a log-mel spectrogram that is made of each sound; 0 keeps the samples. More tells closer "
        "pitches apart, and makes a model slower.",
        json_schema_extra=at(17),
    )
    corrupt: Literal["refuse", "skip"] = Field(
        default="refuse",
        description="What becomes of a folder's files that cannot be decoded, or are listed and not there: they are "
        "all named at once, or left out and counted.",
        json_schema_extra=at(18),
    )
    features: tuple[Feature, ...] = Field(
        default=(),
        description="What the features of TFRecords are, where the first record does not say it: bytes that are no "
        "image.",
        json_schema_extra=at(19),
    )
    scaling: Literal["auto", "none", "unit", "standardize"] = Field(
        default="auto",
        description="How the model's first layer treats raw values: to 0..1, to mean 0 and deviation 1, not at all, or "
        "(auto) 'unit' for bytes and 'standardize' for all else.",
        json_schema_extra=at(20),
    )
    flip: bool = Field(
        default=False,
        description="Mirror half of the training images left to right. Wrong where the sides matter, as in digits.",
        json_schema_extra=at(21),
    )
    shift: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Move training images by up to so many pixels each way. More makes a model surer off-centre, and "
        "slower to learn.",
        json_schema_extra=at(22),
    )
    brightness: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Brighten or darken training images by up to this share of the values' range. More makes a model "
        "surer in other light, and slower to learn.",
        json_schema_extra=at(23),
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Show training examples two at a time, one laid over the other (Zhang et al. 2018), by shares of "
        "Beta(a, a) with this number as a: 0.2 is usual, more mixes more evenly. 0 does not.",
        json_schema_extra=at(24),
    )
    cutmix: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Put a box of another training image into each (Yun et al. 2019), of a share of Beta(a, a) with "
        "this number as a: 1 is usual. 0 does not.",
        json_schema_extra=at(25),
    )
    views: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="How many changed versions there are of each training image, shown in turn, an epoch each; 0 "
        "changes them anew each epoch. A teacher answers each version once for all epochs and stages, and sees what "
        "the student sees (Beyer et al. 2022): fewer are faster and teach less.",
        json_schema_extra=at(26),
    )
    mistakes: MistakesConfig = Field(
        default=MistakesConfig(),
        title="Mistakes",
        description="What a wrong class or label costs in training.",
        json_schema_extra=at(27),
    )
    memory_mib: int = Field(
        default=512,
        ge=16,
        le=1 << 20,
        description="Decoded examples stay in memory up to so many MiB (twice as much for a moment); beyond it each "
        "epoch reads the source again. More is faster.",
        json_schema_extra=at(28),
    )
    table: TableConfig = Field(
        default=TableConfig(),
        title="Columns of a table",
        description="How a table's columns are read: gaps, categories, dates, encodings.",
        json_schema_extra=at(29),
    )
    heads: tuple[HeadConfig, ...] = Field(
        default=(),
        title="Outputs",
        description="Of a model with several outputs, each one by its name, with a problem of its own; they take the "
        "place of data.problem, target and classes. The first one's figures stand for the version where there is room "
        "for one.",
        json_schema_extra=at(30),
    )

    weight: str = Field(
        default="",
        description="A column or key of numbers that say what each example counts in training: 2 is as if it were "
        "there twice. It is no input, unless data.input names it.",
        json_schema_extra=at(31),
    )

    loss: str = Field(default="", pattern=FUNCTION, description=LOSS, json_schema_extra=at(32))

    @model_validator(mode="after")
    def _outputs_by_name(self) -> Self:
        names = [head.name for head in self.heads]
        if len(names) == 1 or len(set(names)) < len(names):
            raise ValueError(
                f"heads: {', '.join(names)}: name at least two outputs, each once; one is data.problem, target, classes"
            )
        if self.heads and (self.target or self.classes or self.problem != "classification"):
            raise ValueError("heads: each says its own problem, target and classes; leave data's out")
        if self.heads and self.loss:
            raise ValueError("heads: each says its own loss; leave data's out")
        if any(each.loss and (each.mistakes.any or each.mixes) for each in self.of_heads.values()):
            raise ValueError(
                "loss: decides what mistakes cost, and knows no mixed examples; leave mistakes, mixup and cutmix out"
            )
        if self.heads and any(head.problem == "reconstruction" for head in self.heads):
            raise ValueError("heads: a reconstruction is of the one input; give that as the target of a regression")
        if self.heads and (self.mixes or self.mistakes.weights):
            raise ValueError("heads: mixup, cutmix and mistakes.weights are for one output; leave them out")
        return self

    @property
    def of_heads(self) -> "dict[str, DataConfig]":
        """What is read for each output, by its name; for one output the config itself."""
        if not self.heads:
            return {ONE: self}
        return {
            head.name: self.model_copy(
                update={
                    "heads": (),
                    "problem": head.problem,
                    "target": head.target or head.name,
                    "classes": head.classes,
                    "loss": head.loss,
                    "mistakes": MistakesConfig() if head.problem == "regression" else self.mistakes,
                }
            )
            for head in self.heads
        }

    @property
    def loss_weights(self) -> dict[str, float]:
        """What the loss of each output counts."""
        return {head.name: head.weight for head in self.heads} or {ONE: 1.0}

    @property
    def beside(self) -> tuple[str, ...]:
        """The columns that decide splits, slices and weights, and are no inputs."""
        return tuple(filter(None, (self.group, self.time, self.slice, self.weight)))

    @property
    def mixes(self) -> bool:
        """Whether training examples are mixed two at a time."""
        return bool(self.mixup or self.cutmix)

    @property
    def treatment(self) -> dict[str, object]:
        """What shapes a training besides the examples: its cache key holds this and the data's digest, never a path."""
        losses = {
            name: [each.loss, digest_file(own_function.source_of(each.loss))]
            for name, each in self.of_heads.items()
            if each.loss
        }
        return self.model_dump(mode="json", include=set(TREATMENT)) | {"weights": self.loss_weights, "losses": losses}

    def fingerprint(self) -> dict[str, object]:
        """What a stage's cache key holds of the data: their content, and how a training sees them; never a path."""
        from tasks.data import content  # the readers need this module

        return {"content": content(self), "treatment": self.treatment}
