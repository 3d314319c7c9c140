"""What was seen of Keras' applications, as a page."""

from typing import Any

from tasks.contract.artifact import Target

TARGETS: tuple[Target, ...] = ("onnxruntime", "litert", "savedmodel", "tensorrt")

HEAD = """# Keras' applications

The smallest of each family of `keras.applications`, of Keras 2 and of Keras 3, as Slimline brings it and makes files of
it: `python -m benchmarks.applications`. Made {date} on {processor}, two cores, load {load}.

- Nothing is downloaded. Weights are drawn as Keras draws them, and trained for sixty steps on 160 images of ten classes
  that their colours tell, at 64 pixels where an application takes so few. Without that, a deep model answers all images
  nearly the same, so that 8 bits seem to cost a third of its range, and right files part for a hair.
- All figures are of {asked} other images, and of logits. What is learned in sixty steps (**accuracy**) says nothing of
  the application; how files follow the model does.

## Brought, and as float files

- **from .keras**: saved by tf-keras (Keras 2) and by Keras 3 and brought without `trust`: the largest difference from
  what it answered before it was saved, in parts of that class's own range, of what was brought and of that with its
  norms folded.
- **float**: the largest difference of a format's file from Keras' answers, likewise. What `check` allows is 1e-4.

| application | parameters | pixels | accuracy | from .keras of Keras 2 | of Keras 3 | {formats} | MB (ONNX) |
| --- | ---: | ---: | ---: | ---: | ---: | {lines} | ---: |
"""

INTEGERS = """
## In 8-bit integers

Ranges of 64 training images, no training after it: `quantize: { method: post_training }`.

- **off**: how far a file is from the fake-quantized Keras model, in steps of which 255 are the range of all answers:
  the mean in the class where that is largest, and the most. `check` holds the mean.
- **unrest**: by how much that model itself moves, in those steps, when its kernels grow by a part in 16,384: no file
  can be compared more finely, and a SavedModel, which computes in TensorFlow what Keras does, is off by as much.
- **8 bits cost**: how far the fake-quantized model is from the float model, the mean in parts of the worst class's
  range.
- **same class**: for how many images the file names the class that the float model in Keras does.
- **integers**: the share of multiply-accumulates in integer kernels; TensorRT's as its rules predict, and TensorFlow
  has none on processors.
- **ms**: one image, one thread, float to int8, beside other work: a hint, no benchmark. TensorRT is not here.
- **seconds**: to write the file in float, and to quantize the model and write it in int8.

| application | format | off, mean | most | unrest | 8 bits cost | same class | integers | MB | ms | seconds |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
"""


def page(seen: dict[str, Any], asked: int) -> str:
    """What was seen of each application, by name, as Markdown; `asked`: of how many images."""
    measured = [application for application in seen.values() if "failed" not in application]
    head = HEAD.format(
        date=_joined(application["date"] for application in seen.values()),
        processor=_joined(application["processor"] for application in seen.values()),
        load=f"{min(min(application['load']) for application in seen.values()):.0f} to "
        f"{max(max(application['load']) for application in seen.values()):.0f}",
        asked=asked,
        formats=" | ".join(f"float {target}" for target in TARGETS),
        lines=" | ".join("---:" for _ in TARGETS),
    )
    floats = [_line(_float_cells(application)) for application in measured]
    integers = [_line(_integer_cells(application, target)) for application in measured for target in TARGETS]
    wrong = [line for application in seen.values() for line in _wrong(application)]
    refused = ["", "## Refused, wrong or failed", "", *(wrong or ["Nothing."])]
    return "\n".join([head + "\n".join(floats), INTEGERS.removesuffix("\n"), *integers, *refused]) + "\n"


def _float_cells(application: dict[str, Any]) -> list[str]:
    rows = {target: _row(application, target, "float32") for target in TARGETS}
    return [
        application["application"],
        f"{application['parameters'] / 1e6:.1f} M",
        str(application["pixels"]),
        f"{application['accuracy']:.0%}",
        *(_off(application["brought"].get(keras)) for keras in ("2", "3")),
        *(_cell(row, "off", ".0e") for row in rows.values()),
        _cell(rows["onnxruntime"], "bytes", ".1f", 1e-6),
    ]


def _off(brought: dict[str, Any] | None) -> str:
    if brought is None:
        return "has none"
    return ", ".join(format(off, ".0e") for off in brought["off"]) if "off" in brought else "refused"


def _integer_cells(application: dict[str, Any], target: str) -> list[str]:
    before, after = (_row(application, target, precision) for precision in ("float32", "int8"))
    return [
        application["application"],
        target,
        _cell(after, "steps_mean", ".2f"),
        _cell(after, "steps_most", ".0f"),
        _cell(after, "unrest", ".2f"),
        _cell(after, "quantization", ".1%"),
        _cell(after, "agree", ".0%"),
        _cell(after, "integer_share", ".0%"),
        *(
            " → ".join(_cell(row, key, form, scale) for row in (before, after))
            for key, form, scale in (("bytes", ".1f", 1e-6), ("milliseconds", ".1f", 1), ("seconds", ".0f", 1))
        ),
    ]


def _wrong(application: dict[str, Any]) -> list[str]:
    """A line for whatever was refused, answered otherwise than it should, or failed."""
    if "failed" in application:
        return [f"- **{application['application']}**: {application['failed']}"]
    files = [(f".keras of Keras {keras}", brought) for keras, brought in application["brought"].items()]
    files += [(f"{row['target']}, {row['precision']}", row) for row in application["rows"]]
    return [
        f"- **{application['application']}, {what}**: {' '.join((row.get('refused') or row['wrong']).split())}"
        for what, row in files
        if row.get("refused") or row.get("wrong")
    ]


def _row(application: dict[str, Any], target: str, precision: str) -> dict[str, Any]:
    """What was seen of a file."""
    rows: list[dict[str, Any]] = application["rows"]
    return next(row for row in rows if (row["target"], row["precision"]) == (target, precision))


def _joined(values: Any) -> str:
    return ", ".join(sorted(set(values)))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(row: dict[str, Any], key: str, form: str, scale: float = 1) -> str:
    return format(row[key] * scale, form) if row.get(key) is not None else "-"
