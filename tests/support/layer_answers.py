"""How the lines of `layer_sweep` are asked: models made of them, files of those, and what is seen.

Lines stand beside one another in one model, each with an output of its own: a file for each would take half an hour.
Where a model with many of them fails, it is parted down to the line that does it.
"""

import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from layer_lines import IMAGE, SEQUENCE, VECTOR
from layer_sweep import Case, cases

from tasks.contract.errors import SlimlineError
from tasks.contract.named import ONE, ordered
from tasks.data.heads import Head
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.formats.keras3 import files as keras3
from tasks.quantization.fake_quantization import fake_quantized

EXAMPLES, BATCHES = 16, (1, 2)
FLOAT = 1e-4  # of a channel's own range
MEAN_STEPS, MAX_STEPS = 2.0, 4.0  # of the output's range, in each channel
HELD = 0.1  # of a channel's own range, on average: what 8 bits may cost
# Where a line stands: in float before a kernel; in integers between two, so that it has integers on both sides.
PRECISIONS = {"float32": "first", "int8": "between"}
FILES = ("onnxruntime", "litert", "savedmodel")  # tensorrt takes other ranges, and has tests of its own
REBUILT = "keras"  # no file: a model of Keras 3 as one of Keras 2
QUICK = ("onnxruntime", "litert", REBUILT)
RIGHT = "right"
TABLE = Path(__file__).with_name("layer_sweep_known.txt")
TOGETHER = 12
SLOW = re.compile("LSTM|GRU|RNN|TimeDistributed")  # loops take ten times as long to convert


def known() -> dict[str, str]:
    """What is not right today, by `key`."""
    lines = (line for line in TABLE.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split(" || ", 1) for line in lines)


def key(case: Case, precision: str, target: str) -> str:
    """A case, precision and target in one line."""
    return f"{target} {precision} {case.keras}: {case}"


def groups(
    keras: int, precision: str, trouble: Collection[str]
) -> Iterator[tuple[tuple[Case, ...], tuple[str, ...], tuple[str, ...]]]:
    """Cases that are asked together, in which targets, and in which of them that is quick.

    What is in the table is asked alone. Quick is the first line of each class, where it needs no loop; in integers, of
    shapes that integer kernels take.
    """
    grouped: dict[Any, list[Case]] = {}
    begun: set[str] = set()
    for case in cases(keras) if keras == 2 or precision == "float32" else ():
        activation = bool(re.search(r"\bactivation=", case.line)) or case.kind == "Activation"
        # Its layers come out as those of Keras 2, all but some activations, which are made of several
        rebuilt = key(case, precision, REBUILT) not in trouble
        targets = FILES if keras == 2 else (REBUILT, *FILES) if activation and rebuilt else (REBUILT,)
        alone = any(key(case, precision, target) in trouble for target in targets) or case.batch is not None
        first = case.kind not in begun or (activation and keras == 3)
        begun.add(case.kind)
        quick: tuple[str, ...] = ()
        if first and not (SLOW.search(case.line) or case.masked or alone):
            taken = precision == "float32" or case.shape in (VECTOR, SEQUENCE, IMAGE)
            quick = (QUICK if keras == 2 else (REBUILT,)) if taken else ()
        apart = str(case) if alone else None
        grouped.setdefault((targets, quick, case.shape, case.numbered, case.masked, apart), []).append(case)
    for (targets, quick, *_), members in grouped.items():
        for start in range(0, len(members), TOGETHER):
            yield tuple(members[start : start + TOGETHER]), targets, quick


def model_of(group: Sequence[Case], form: str) -> Any:
    """A model with an output for each case, named `case_0` and so on; all weights drawn at random."""
    import keras as of_three
    import tensorflow as tf

    library = tf.keras if group[0].keras == 2 else of_three
    tf.keras.backend.clear_session()
    of_three.utils.clear_session(free_memory=False)
    tf.keras.utils.set_random_seed(3)
    layers = library.layers
    whole = group[0].numbered and group[0].batch is None and len(group) == 1  # brought as a person builds it
    inputs = library.Input(
        group[0].shape, batch_size=group[0].batch, dtype="int32" if whole else "float32", name="input"
    )
    model = library.Model(
        inputs, [_output(layers, inputs, case, form, f"case_{place}") for place, case in enumerate(group)], name="sweep"
    )
    return drawn(model)


def _output(layers: Any, x: Any, case: Case, form: str, name: str) -> Any:
    if case.masked:
        x = layers.Masking()(x)
    if case.numbered:
        y = x
    elif form == "first":
        y = layers.Rescaling(-0.5, 0.2)(x)
    else:
        x, y = (_kernel(layers, x, x.shape[-1], f"{name}_{side}") for side in ("x", "y"))
    names = {key: value for key, value in vars(layers).items() if not key.startswith("_")}
    output = eval(case.line, {**names, "x": x, "y": y})
    if isinstance(output, layers.Layer):
        output = output(x)
    if case.masked and len(output.shape) == 3:  # which answers otherwise if the mask was lost
        output = layers.GlobalAveragePooling1D()(output)
    return _kernel(layers, output, 4, name)


def _kernel(layers: Any, x: Any, channels: int, name: str) -> Any:
    """One that keeps the shape but for the channels."""
    return (layers.Conv2D(channels, 1, name=name) if len(x.shape) == 4 else layers.Dense(channels, name=name))(x)


def drawn(model: Any) -> Any:
    """No weight is as it began: zeros and ones hide what is left out."""
    draw = np.random.default_rng(1)
    values = []
    for weight in model.weights:
        name, shape, before = weight.name.split("/")[-1], tuple(weight.shape), np.asarray(weight)
        if before.dtype.kind != "f" or "seed" in name:
            values.append(before)
        elif "variance" in name or "gamma" in name or (name.startswith("scale") and len(shape) < 2):
            sign = np.where(draw.random(shape) < 0.3, -1, 1) if "gamma" in name else 1
            values.append(draw.uniform(0.5, 1.5, shape) * sign)
        elif len(shape) > 1:
            values.append(draw.normal(0, 1.2, shape) / np.sqrt(max(1, before.size / shape[-1])))
        else:
            values.append(draw.normal(0, 0.3, shape))
    types = [np.asarray(weight).dtype for weight in model.weights]
    model.set_weights([np.asarray(value, kind) for value, kind in zip(values, types, strict=True)])
    for part in model._flatten_layers():
        if hasattr(part, "finalize_state"):
            part.finalize_state()
    return model


@cache
def examples(case: Case) -> np.ndarray:
    """`(EXAMPLES, *shape)`; sequences end early, all but the first, and one has a gap."""
    draw = np.random.default_rng(2)
    if case.numbered:
        x = draw.integers(0, 9, (EXAMPLES, *case.shape)).astype(np.float32)
    else:
        x = draw.normal(0, 1, (EXAMPLES, *case.shape)).astype(np.float32)
    if case.masked or case.numbered or case.kind == "Masking":
        for place in range(1, EXAMPLES):
            x[place, 1 + place % (case.shape[0] - 1) :] = 0
        x[0, 1] = 0
        x[x == 0.5] = 0.6
    return x


def brought(case: Case, form: str) -> Any:
    """The model of one case as it comes out of where users' models come in."""
    model = model_of([case], form)
    shape = tuple(model.outputs[0].shape[1:])
    head = Head(problem="regression", output_shape=shape)
    return keras.fitted(keras.plain(model, "sweep", "model"), {ONE: case.shape}, [head], "sweep", "model")


def answers(model: Any, x: np.ndarray) -> list[np.ndarray]:
    """Keras' answers, output by output."""
    outputs = model(x, training=False)
    return [np.asarray(each) for each in (outputs if isinstance(outputs, list | tuple) else [outputs])]


def asked(folder: Path, target: str, x: np.ndarray, count: int) -> list[np.ndarray]:
    """A file's answers, output by output."""
    given = FORMATS[target].load(folder)(x)  # type: ignore[index]
    return ordered(given, [f"case_{place}" for place in range(count)])


@lru_cache(maxsize=4)
def prepared(group: tuple[Case, ...], form: str, precision: str) -> tuple[Any, list[np.ndarray], list[np.ndarray]]:
    """A model to write, what it answers, and what the one answers that was brought; the same for all targets."""
    model = brought(group[0], form) if len(group) == 1 else _together(group, form)
    x = examples(group[0])
    some = x[: group[0].batch or EXAMPLES]
    source = model_of(group, form) if len(group) == 1 or group[0].keras == 3 else model
    model_of_file = fake_quantized(model, x) if precision == "int8" else model
    return model_of_file, answers(model_of_file, some), answers(source, some)


def seen(group: tuple[Case, ...], precision: str, target: str) -> dict[Case, str]:
    """For each case `right`, or what is wrong with it: a refusal, a traceback, or how far its answers are off."""
    form = "first" if group[0].numbered else PRECISIONS[precision]
    try:
        model, expected, by_brought = prepared(group, form, precision)
        x = examples(group[0])
        batches = (group[0].batch,) if group[0].batch else (EXAMPLES, *BATCHES)
        with tempfile.TemporaryDirectory() as place:
            if target == REBUILT:
                of_file = [expected]
            else:
                FORMATS[target].write(model, Path(place), precision, classes=())  # type: ignore[index]
                of_file = [asked(Path(place), target, x[:batch], len(group)) for batch in batches]
    except Exception as error:
        if len(group) == 1:
            return {group[0]: _refused(error, group[0], form)}
        middle = len(group) // 2
        return seen(group[:middle], precision, target) | seen(group[middle:], precision, target)
    return {
        case: judged([each[place] for each in of_file], expected[place], by_brought[place], precision)
        for place, case in enumerate(group)
    }


def _together(group: tuple[Case, ...], form: str) -> Any:
    model = model_of(group, form)
    return keras3.rebuilt(model, "sweep", "model") if group[0].keras == 3 else model


def _refused(error: Exception, case: Case, form: str) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if not isinstance(error, SlimlineError):
        try:
            answers(model_of([case], form), examples(case)[: case.batch or 1])
        except Exception:
            return f"useless: Keras itself fails with {text}"
        return f"traceback {text}"
    inside = [layer.name for layer in model_of([case], form).layers if not layer.name.startswith(("case_", "input"))]
    named = any(f"'{name}" in str(error) for name in inside)
    return f"{'refused' if named else 'refused namelessly'} {text}"


def judged(actual: Sequence[np.ndarray], expected: np.ndarray, by_brought: np.ndarray, precision: str) -> str:
    """Answers at several batch sizes beside those that are right.

    Args:
        actual: a file's answers to all examples, and to the first few.
        expected: `(examples, ..., channels)`, by the model that the file was made of.
        by_brought: the same by the model that was brought.
        precision: in float, every channel is compared by its own range; in integers, by steps of the output's.

    """
    if not np.isfinite(by_brought).all():
        return "useless: Keras' own answers are not finite"
    for each in actual:
        if each.shape != expected[: len(each)].shape:
            return f"wrong shape {each.shape} instead of {expected[: len(each)].shape}"
        if not np.isfinite(each).all():
            return f"wrong: not finite at batch {len(each)}"
    axes = tuple(range(expected.ndim - 1))
    ranges = np.ptp(by_brought, axes)
    ranges = np.where(ranges > 0, ranges, np.maximum(np.abs(by_brought).max(axes), 1e-12))
    if precision == "float32":
        for each in actual:
            off = (np.abs(each - by_brought[: len(each)]).max(axes) / ranges).max()
            if not off <= FLOAT:
                return f"wrong by {off:.2g} of the range at batch {len(each)}"
        return RIGHT
    for each in actual:
        steps = np.abs(each - expected[: len(each)]) / (np.ptp(expected) / 255 or 1e-12)
        if steps.mean(axes).max() > MEAN_STEPS or steps.max() > MAX_STEPS:
            return f"wrong by {steps.mean(axes).max():.2g} steps, at most {steps.max():.2g}, at batch {len(each)}"
    off = (np.abs(expected - by_brought).mean(axes) / ranges).max()
    return RIGHT if off <= HELD else f"wrong by {off:.2g} of the range when it is quantized"


def main() -> None:
    """Write the table of what is not right anew: the whole sweep, half an hour."""
    before, lines = known(), [line for line in TABLE.read_text().splitlines() if line.startswith("#")]
    for keras_version in (2, 3):
        for precision in PRECISIONS:
            for group, targets, _ in groups(keras_version, precision, before):
                for target in targets:
                    for case, outcome in seen(group, precision, target).items():
                        if outcome != RIGHT:
                            lines.append(f"{key(case, precision, target)} || {outcome}")
                            print(lines[-1], flush=True)  # noqa: T201  who started it reads that
    TABLE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
