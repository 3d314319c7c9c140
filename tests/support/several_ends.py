"""A version of a model with two inputs and two outputs, laid out as register does, from files that formats write."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from made_evidence import evidence_of, made

from tasks.contract.artifact import digest_files
from tasks.contract.named import Array, packed
from tasks.data.heads import Head
from tasks.drift.profile import write_profile
from tasks.evidence.evidence import HeadEvidence, Reference, Scored, write_evidence
from tasks.formats import FORMATS
from tasks.keras_graph.asked import asked
from tasks.quantization.fake_quantization import fake_quantized
from tasks.store import tracking
from tasks.versions.labels import write_labels
from tasks.versions.manifest import write_manifest
from tasks.versions.version import OpenVersion, open_version, place_of

# no alphabet's order: formats that keep none have that one
INPUTS = {"scene": (6, 6, 1), "facts": (3,)}
KINDS = ("cat", "dog", "eel")
HEADS = (
    Head(name="kind", problem="classification", output_shape=(3,), classes=KINDS),
    Head(name="box", problem="regression", output_shape=(2,)),
)
FORMAT_OF = {"onnxruntime": "onnx", "litert": "tflite", "savedmodel": "savedmodel", "tensorrt": "onnx"}


def model() -> Any:
    """Two inputs of unlike shapes, which both matter to both outputs; the second answers in hundreds."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    scene, facts = (tf.keras.Input(shape, name=name) for name, shape in INPUTS.items())
    seen = layers.Flatten(name="flat")(layers.Conv2D(4, 3, activation="relu", name="stem")(scene))
    both = layers.Concatenate(name="both")([seen, layers.Dense(4, name="told")(facts)])
    kind = layers.Dense(3, activation="softmax", name="kind")(both)
    box = layers.Rescaling(100.0, name="box")(layers.Dense(2, name="corner")(both))
    return tf.keras.Model([scene, facts], [kind, box], name="two")


def examples(count: int, seed: int = 0) -> Array:
    """Records of both inputs."""
    draw = np.random.default_rng(seed)
    return packed({name: draw.normal(size=(count, *shape)).astype(np.float32) for name, shape in INPUTS.items()})


def profile() -> dict[str, Any]:
    """What goes into the version's `profile.json`."""
    return {
        "problem": "classification",
        "input_shape": INPUTS["scene"],
        "output_shape": (3,),
        "classes": KINDS,
        "dtype": "float32",
        "inputs": {},
        "targets": {},
        "heads": [head.model_dump(mode="json") for head in HEADS],
        "input_shapes": {name: list(shape) for name, shape in INPUTS.items()},
    }


def lay_out(folder: Path, *targets: str, integers: bool = False) -> tuple[OpenVersion, Array, Array]:
    """A version with a file for each target, the first one MLflow's, its examples, and Keras's answers.

    In float, or in integers, which LiteRT's have at their ends too.
    """
    x = examples(16)
    two = fake_quantized(model(), examples(64, seed=1)) if integers else model()
    y = asked(two, x)
    precision = "int8" if integers else "float32"
    first = targets[0]
    made_at = folder.parent / f"{folder.name}-files"
    for target in targets:
        place = made_at / target
        place.mkdir(parents=True)
        ends = {"integer_io": True} if integers and target == "litert" else {}
        FORMATS[target].write(two, place, precision, classes=(), **ends)
        if target == "savedmodel":
            FORMATS[target].warm_up(place, x[:2])
    libraries = [f"{library}=={version(library)}" for library in FORMATS[first].REQUIREMENTS]
    source = made_at / first / FORMATS[first].FILE
    tracking.save_model(folder, source, place_of(first) / FORMATS[first].FILE, x[:2], libraries, profile())
    files, sample, scored = [], {"examples": x}, made()
    for target in targets:
        _copied(made_at / target, folder / place_of(target))
        told = {name: getattr(scored, name) for name in Scored.model_fields} | {"confusion": ()}  # numbers have none
        each = {head.name: Scored(**told) for head in HEADS}
        names = [
            file.relative_to(made_at / target).as_posix() for file in (made_at / target).rglob("*") if file.is_file()
        ]
        files.append(
            made(
                target=target,
                format=FORMAT_OF[target],
                shipped=True,
                precision=precision,
                sha256=digest_files(made_at / target, names),
                heads=each,
            )
        )
        sample[target] = FORMATS[target].load(made_at / target)(x)
    heads = tuple(
        HeadEvidence(
            name=head.name,
            problem=head.problem,
            score=score,
            classes=head.classes,
            reference=Reference(keras="Keras 2", brought=True, accuracy=scored.accuracy, guessing=0.5),
        )
        for head, score in zip(HEADS, ("accuracy", "mae"), strict=True)
    )
    evidence = evidence_of(scored).model_copy(update={"files": tuple(files), "heads": heads})
    (folder / "evidence").mkdir()
    write_evidence(evidence, folder / "evidence")
    write_profile(profile(), folder)
    np.savez_compressed(folder / "sample.npz", **sample)
    write_labels({head.name: head.classes for head in HEADS}, folder)
    (folder / "recipe.yaml").write_text(json.dumps({"name": "two"}))
    write_manifest(folder, name="two")
    return open_version("models:/two/1", folder), x, y


def _copied(source: Path, place: Path) -> None:
    for file in (path for path in source.rglob("*") if path.is_file()):
        (place / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        (place / file.relative_to(source)).write_bytes(file.read_bytes())
