"""Bring: the door that models of one's own come through, before anything is trained.

A model answers real examples as it came, in the Keras that it was made with, and those answers are kept. The same model
in Keras 2, and that with its norms folded, are compared with them; and with the model in Keras 2 its file for every
target, asked for one example at a time, two, and many.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, Field

from tasks.contract.artifact import ModelArtifact, Precision, Role, Target
from tasks.contract.errors import AnswersDiffer, ModelError
from tasks.contract.named import each, fields
from tasks.contract.progress import listener
from tasks.data import DataArtifact, Dataset, open_prepared
from tasks.data.heads import Head
from tasks.evidence.brought_answers import keep_answers
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.formats.parity import FEW, targets_apart
from tasks.keras_graph.asked import asked
from tasks.keras_graph.folding import fold
from tasks.keras_graph.own_types import unfit
from tasks.measuring.agreement import furthest
from tasks.measuring.arrays import Outputs
from tasks.measuring.measure import Measure, measure_of
from tasks.measuring.scores import good_enough
from tasks.quantization.fake_quantization import fake_quantized
from tasks.quantization.parameters import is_fake_quantized
from tasks.store.stage import StageRun, stage
from tasks.zoo import Brought, ModelConfig, bring_model

if TYPE_CHECKING:
    import tensorflow as tf

CALIBRATION = 64  # train examples that set the ranges of a model that is only tried
MANY = 64  # examples that files are asked at once
AGAIN = (
    "answers the same examples otherwise each time: a layer of it draws at random, or remembers the last call. Build "
    "it without training=True at a Dropout, and without stateful=True"
)
ALONE = (
    "asked {} at a time it answers otherwise than many: what else is in the batch decides, as with a "
    "BatchNormalization that is called with training=True. Call it without, or replace it by GroupNormalization, which "
    "looks at one example alone"
)


class Door(BaseModel, frozen=True, extra="forbid"):
    """What is asked of a model that is brought."""

    targets: tuple[Target, ...] = Field(description="The runtimes that files of it are made for.")
    precision: Precision = Field(description="Of those; int8 if they are to have a fake-quantized model's ranges.")
    floor: float = Field(description="Its least score; 0 asks for better than guessing, less for nothing.")
    metrics: dict[str, str] = Field(
        {}, description="What that is of each output, as `validate.metric` names it; auto if none."
    )
    examples: int = Field(description="How many of the test split it is asked; all if 0.")


def as_it_came(brought: Brought, x: Outputs, batch: int, name: str, field: str) -> Outputs:
    """What a model answers as it came `(n, …)`, if nothing but an example decides its answer.

    Raises:
        ModelError: it does not take the examples, answers with NaN or infinity, or with what hangs on chance, the last
            call, or what else is in the batch.

    """
    few = x[:FEW]
    try:
        answers = brought.answers(x, batch)
        others = {
            AGAIN: brought.answers(x[:batch], batch),
            ALONE.format(1): brought.answers(few, 1),
            ALONE.format(2): brought.answers(few, 2),
        }
    except Exception as error:  # whatever a model of the user's own does with examples that it does not like
        raise ModelError(
            field, name, f"does not answer the data's examples in {brought.keras} ({type(error).__name__}: {error})"
        ) from error
    if not all(np.isfinite(values).all() for values in fields(answers).values()):
        raise ModelError(field, name, "answers test examples with NaN or infinity: look at its weights and the data")
    for complaint, other in others.items():
        difference = furthest(other, answers[: len(other)])
        if difference.share > 1:
            raise ModelError(field, name, f"{complaint} ({difference})")
    return answers


def check_model(brought: Brought, answers: Outputs, x: Outputs, name: str, field: str) -> None:
    """Compare the model in Keras 2, and that with its norms folded, with what it answered as it came.

    Raises:
        ModelError: it answers otherwise; says which of the two, and by how much.

    """
    expected = answers[: len(x)]
    for what, model in (("in Keras 2", brought.model), ("with its norms folded", fold(brought.model))):
        difference = furthest(asked(model, x), expected)
        if difference.share > 1:
            raise ModelError(
                field,
                name,
                f"{what} it answers otherwise than as it came ({brought.keras}): {difference}; this is a fault of "
                "Slimline's: report it with the model, and build it of other layers meanwhile",
            )


def check_files(
    model: "tf.keras.Model", targets: Sequence[Target], precision: Precision, data: Dataset, role: Role
) -> None:
    """Compare the files that would be made of a model, in float and in integers if it is to have those, with it.

    Raises:
        AnswersDiffer: a target's file cannot be made or answers otherwise; says which, at which layer and by how much,
            and which targets are right.

    """
    x, _ = data.sample("test", MANY)
    wrong = targets_apart(model, targets, "float32", x, MANY)
    if precision == "int8":
        quantized = fake_quantized(model, data.sample("train", CALIBRATION)[0])
        # where nothing has an integer kernel it stays in float
        rest = [target for target in targets if target not in wrong and is_fake_quantized(quantized)]
        wrong = targets_apart(quantized, rest, "int8", x, MANY) | wrong
    if not wrong:
        return
    right = [target for target in targets if target not in wrong]
    right.sort(key=lambda target: not FORMATS[target].RUNS_HERE)
    way_out = "Replace the layer"
    if right and FORMATS[right[0]].RUNS_HERE:  # as the first one has to
        way_out += f", or name only the targets that are right (targets: [{', '.join(right)}])"
    lines = "".join(f"\n- {line}" for line in wrong.values())
    raise AnswersDiffer(f"files of the {role} would not answer as it does:{lines}\n{way_out}")


def check_floor(model: "tf.keras.Model", data: Dataset, floor: float, metrics: Mapping[str, str], name: str) -> None:
    """Refuse a teacher that is no better than guessing, or below the score that was asked for, on the validation split.

    Of several outputs each has to be better than guessing, and the floor is the first one's.

    Raises:
        ModelError: says how good it is, and what is likely: inputs on another scale than it was trained on, or other
            data.

    """
    x, y = data.arrays("validation")
    for number, head in enumerate(data.heads):
        metric = metrics.get(head.name, "auto")
        measure = measure_of(metric, head.problem, head.of(y), head.variance, names=head.target_columns)
        _check_floor(model, x, head, measure, 0 if number else floor, name)


def _check_floor(model: "tf.keras.Model", x: Outputs, head: Head, measure: Measure, floor: float, name: str) -> None:
    lower, sign = measure.metric.lower, measure.metric.sign
    least = floor or measure.guessing(len(head.classes))

    def score(inputs: Outputs) -> float:
        answers = head.of(asked(model, inputs))
        values = measure.values(answers)
        if values is None:
            return measure.figure(answers)
        of_targets = values.mean(axis=0)  # of several targets the worst: none hides behind another
        return float(of_targets.max() if lower else of_targets.min())

    reached = score(x)
    if good_enough(reached, floor, least, lower=lower):
        return
    tried = {
        "divided by 255": score(each(x, lambda values: values / 255)),
        "from -1 to 1, x / 127.5 - 1": score(each(x, lambda values: values / 127.5 - 1)),
    }
    better = max(tried, key=lambda how: sign * tried[how])
    likely = (
        f"With values {better} it has {tried[better]:.3f}: it was trained on those, so put that step into the model "
        "(tf.keras.layers.Rescaling as its first layer)"
        if sign * tried[better] > max(sign * reached, sign * least)
        else "Are these the data that it was trained for, with classes in the same order and inputs in the same units? "
        "Train it here (teacher.fit.epochs), or take it as it is (teacher.floor: -1)"
    )
    what = f"and teacher.floor = {floor:g} is not reached" if floor else "no better than guessing"
    of_head = f" at output {head.name}" if head.name else ""
    raise ModelError(
        "teacher.model",
        name,
        f"has {measure.metric.name} {reached:.3f}{of_head} on the validation split, {what} ({least:.3f}). {likely}",
    )


def bring(model: ModelConfig, data: Dataset, role: Role, door: Door, seed: int) -> tuple[Brought, Outputs]:
    """A model that is none of the zoo's, and what it answers to the test split as it came `(n, …)`.

    Args:
        model: which.
        data: what it is for.
        role: what it is to be.
        door: what is asked of it.
        seed: of what its function draws.

    Raises:
        ModelError: it cannot be used; says why, and the way out.
        AnswersDiffer: a target's file of it would not answer as it does.

    """
    import tensorflow as tf

    tf.keras.utils.set_random_seed(seed)
    brought, field = bring_model(model, data, role), f"{role}.model"
    x, _ = data.sample("test", door.examples)
    if why := unfit(brought.model, x):
        raise ModelError(field, model.model, why)
    listener().note(f"bring-{role}", f"asking the {role} as it came ({brought.keras}) for {len(x):,} answers")
    answers = as_it_came(brought, x, MANY, model.model, field)
    check_model(brought, answers, x[:MANY], model.model, field)
    if door.floor >= 0:
        check_floor(brought.model, data, door.floor, door.metrics, model.model)
    check_files(brought.model, door.targets, door.precision, data, role)
    return brought, answers


@stage("bring-{role}", reuse=lambda arguments: not arguments["model"].runs_code)
def bring_own(
    run: StageRun, role: Role, model: ModelConfig, data: DataArtifact, door: Door, seed: int
) -> ModelArtifact:
    """Bring a model, and keep it in Keras 2 with what it answered as it came."""
    brought, answers = bring(model, open_prepared(data), role, door, seed)

    def write(folder: Path) -> None:
        keras.write(brought.model, folder)
        keep_answers(folder, answers, brought.keras)

    return run.keep(write, "keras")
