"""Triton: a model repository for processors, and one for NVIDIA's GPUs where there is a file for TensorRT.

After Triton's "Model Repository" and "Model Configuration", and its ONNX Runtime backend's "ONNX Runtime with TensorRT
optimization". The configuration is a text proto of model_config.proto.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tasks.bundles.client import libraries
from tasks.bundles.contents import Contents, read_sample, render
from tasks.bundles.outputs import DATATYPES, write_labels
from tasks.bundles.trial import TrialResult, opened
from tasks.contract.artifact import Precision, Target
from tasks.contract.errors import BundleMismatch
from tasks.contract.named import Array, by_name, field, fields
from tasks.formats import FORMATS
from tasks.formats.onnx.signature import signature
from tasks.formats.slimline_pyfunc import TensorSpec
from tasks.versions.recorded_answers import compare_answers

TARGET: Target = "onnxruntime"  # whose answers and times it is compared with
START = "docker compose --profile cpu up --wait   # or --profile gpu, where gpu/ is there"
IMAGE = "nvcr.io/nvidia/tritonserver:25.08-py3"  # TensorRT 10, which the `tensorrt` target is written for
REPOSITORIES: dict[str, Target] = {"gpu": "tensorrt", "cpu": "onnxruntime"}
PRECISION_MODES: dict[Precision, str] = {"float32": "FP32", "float16": "FP16", "int8": "INT8"}


def lay_out(folder: Path, contents: Contents) -> None:
    """Fill a folder: the repositories `gpu/` and `cpu/`, each with a model of the same name, and `compose.yaml`.

    `gpu/` is left out where the version has no file for TensorRT.
    """
    example = contents.sample()["examples"][:1]
    repositories = {name: target for name, target in REPOSITORIES.items() if not contents.version.lacks(target)}
    for repository, target in repositories.items():
        source = contents.files("triton", target) / FORMATS[target].FILE
        model = folder / repository / contents.name
        place = model / str(contents.number) / "model.onnx"
        place.parent.mkdir(parents=True)
        shutil.copyfile(source, place)
        inputs, outputs = signature(place)
        told = {output.name or outputs[0].name: output for output in contents.outputs(TARGET)}
        render(
            "triton/config.pbtxt",
            model / "config.pbtxt",
            name=contents.name,
            number=contents.number,
            config=contents.config,
            inputs=inputs,
            outputs=outputs,
            types=DATATYPES,
            labels={
                tensor.name: told[tensor.name].file
                for tensor in outputs
                if tensor.shape == (len(told[tensor.name].labels),)
            },
            gpu=target == "tensorrt",
            precision=PRECISION_MODES.get(contents.file("triton", target).precision, "FP32"),
        )
        (model / "warmup").mkdir()
        for tensor in inputs:
            values = by_name(example, [each.name for each in inputs])[tensor.name]
            (model / "warmup" / tensor.name).write_bytes(values.astype(tensor.dtype).tobytes())
        write_labels(model, contents.outputs(TARGET))
    render(
        "triton/compose.yaml", folder / "compose.yaml", image=IMAGE, config=contents.config, gpu="gpu" in repositories
    )
    contents.copy_reference_files(folder)


def trial(folder: Path, about: dict[str, Any], **_: Any) -> TrialResult:
    """Check each configuration by Triton's own schema, and the files' answers; Triton is not run.

    Raises:
        BundleMismatch: a configuration does not fit its file.
        SmokeTestFailed: the answers are not those that were recorded.

    """
    sample = read_sample(folder)
    examples, recorded = sample["examples"], sample["onnxruntime"]
    furthest = 0.0
    repositories = {name: target for name, target in REPOSITORIES.items() if (folder / name).is_dir()}
    for repository, target in repositories.items():
        model = folder / repository / about["name"]
        file = model / str(about["version"]) / "model.onnx"
        check_config(model / "config.pbtxt", *opened(signature, file), about)
        answers = opened(FORMATS[target].load, file.parent)(examples)
        if target == "onnxruntime":
            furthest = compare_answers(recorded, answers, "the ONNX file of cpu/")
        else:
            _check_gpu(repository, recorded, answers)
    return TrialResult(
        server="Triton",
        server_run=False,
        ran="ONNX Runtime, which opened the file of cpu/"
        if "gpu" not in repositories
        else "ONNX Runtime, which opened both files; TensorRT was not here, so the answers compared are those of cpu/",
        examples=len(examples),
        largest_difference=furthest,
    )


def _check_gpu(repository: str, recorded: Array, answers: Array) -> None:
    for name, was in fields(recorded).items():
        values = field(answers, name)
        if values.shape != was.shape or not np.isfinite(values).all():
            raise BundleMismatch(
                f"{repository}/: its file answers {name} in the shape {values.shape} with NaN or infinity among it, or "
                f"in another shape than {was.shape}: compress again"
            )


def check_config(
    file: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], about: dict[str, Any]
) -> None:
    """Pass if a `config.pbtxt` is one, and says of inputs and outputs what the ONNX file says.

    Raises:
        BundleMismatch: it does not; says in what.

    """
    from google.protobuf import text_format

    model_config_pb2 = libraries()["gRPC"].model_config_pb2
    place = "/".join(file.parts[-3:])
    try:
        config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise BundleMismatch(f"{place} cannot be parsed: {error}: deploy the version again") from error
    names = {number: name for name, number in model_config_pb2.DataType.items()}
    for kind, configured, actual in (("input", config.input, inputs), ("output", config.output, outputs)):
        has = [(tensor.name, f"TYPE_{DATATYPES[tensor.dtype]}", tensor.shape) for tensor in actual]
        says = [(tensor.name, names[tensor.data_type], tuple(tensor.dims)) for tensor in configured]
        if says != has:
            raise BundleMismatch(
                f"{place} does not fit the model beside it: its {kind}s are {says}, the file's are {has}: put that "
                "into the configuration, or deploy the version again"
            )
    served = list(config.version_policy.specific.versions)
    if config.name != about["name"] or served != [about["version"]]:
        raise BundleMismatch(
            f"{place} does not fit the model beside it: it names {config.name} version {served}, and the folders are "
            f"{about['name']}/{about['version']}"
        )
