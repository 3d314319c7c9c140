"""Bundles of a real version, checked by the schemas of the servers that take them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from google.protobuf import text_format
from registered import EVERY_TARGET, version_folder

from tasks.bundle import bundle
from tasks.bundles import BUNDLES
from tasks.bundles.contents import BundleConfig, Contents
from tasks.contract.artifact import digest_file, digest_folder
from tasks.contract.errors import TargetMissing
from tasks.versions.version import OpenVersion, open_version

BIN = Path(sys.executable).parent
SERVERS = tuple(BUNDLES)
CONFIG = BundleConfig(max_batch=16, batch_delay_us=250, instances=3, canary_percent=25)


@pytest.fixture(scope="module")
def version(tmp_path_factory, prefect_server, empty_store) -> OpenVersion:
    """A registered version with a file for every target, in int8."""
    return open_version("models:/tiny/1", version_folder(tmp_path_factory, empty_store, EVERY_TARGET))


@pytest.fixture(scope="module")
def contents(version) -> Contents:
    return Contents("tiny", 1, version, CONFIG)


@pytest.fixture(scope="module")
def bundles(contents, tmp_path_factory) -> dict[str, Path]:
    """A bundle for every server."""
    folders = {}
    for server in SERVERS:
        folders[server] = tmp_path_factory.mktemp(server)
        bundle(folders[server], server, contents)
    return folders


@pytest.fixture(scope="module")
def signature(contents) -> dict[str, tuple]:
    """Names, types and shapes of the ONNX files' inputs and outputs, as the ONNX library reads them."""
    import onnx

    tensors = {}
    for target in ("onnxruntime", "tensorrt"):
        graph = onnx.load(contents.files("triton", target) / "model.onnx").graph
        tensors[target] = tuple(
            [
                (
                    value.name,
                    onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
                    [axis.dim_value for axis in value.type.tensor_type.shape.dim[1:]],
                )
                for value in values
            ]
            for values in (graph.input, graph.output)
        )
    return tensors


@pytest.mark.parametrize("server", SERVERS)
def test_the_manifest_names_every_file_and_the_evidence(server, bundles, contents):
    folder = bundles[server]
    manifest = json.loads((folder / "manifest.json").read_text())
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"manifest.json"}
    assert set(manifest["files"]) == there
    for name, digest in manifest["files"].items():
        done = subprocess.run(["sha256sum", folder / name], capture_output=True, text=True, check=True)
        assert done.stdout.split()[0] == digest
    assert (manifest["name"], manifest["version"]) == ("tiny", 1)
    assert manifest["evidence_sha256"] == digest_folder(contents.version.folder / "evidence")
    assert manifest["model_sha256"] == contents.version.digest_of(BUNDLES[server].TARGET)


@pytest.mark.parametrize("server", SERVERS)
def test_sha256sum_checks_it_as_it_stands(server, bundles, tmp_path):
    folder = Path(shutil.copytree(bundles[server], tmp_path / server))
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {line.rpartition(": ")[0] for line in done.stdout.splitlines()} == there - {"SHA256SUMS", "manifest.json"}
    (folder / "README.md").write_text("")
    assert subprocess.run(command, cwd=folder, capture_output=True).returncode == 1


def test_triton_s_bundle_of_a_version_without_a_file_for_tensorrt_is_for_processors(version, tmp_path):
    from tasks.bundles.triton import trial

    files = tuple(file for file in version.evidence.files if file.target != "tensorrt")
    without = OpenVersion(version.uri, version.folder, version.evidence.model_copy(update={"files": files}))
    bundle(tmp_path, "triton", Contents("tiny", 1, without, CONFIG))
    assert not (tmp_path / "gpu").exists()
    assert set(yaml.safe_load((tmp_path / "compose.yaml").read_text())["services"]) == {"triton-cpu"}
    assert "put `tensorrt` into the recipe's `targets`" in (tmp_path / "README.md").read_text()
    assert "`slimline deploy` ran no Triton:" in (tmp_path / "README.md").read_text()
    assert trial(tmp_path, {"name": "tiny", "version": 1}).largest_difference < 1e-5


@pytest.mark.parametrize("server", ["docker", "kserve", "triton", "tfserving"])
def test_the_request_to_copy_is_a_recorded_example_and_the_page_says_its_answer(server, bundles, contents):
    folder, sample = bundles[server], contents.sample()
    body = json.loads((folder / "request.json").read_text())
    if server == "tfserving":
        sent = body["instances"]
    else:
        (tensor,) = body["inputs"]
        assert (tensor["name"], tensor["datatype"]) == ("input", "FP32")
        sent = np.reshape(tensor["data"], tensor["shape"])
    np.testing.assert_array_equal(np.asarray(sent, np.float32), sample["examples"][:1])
    answer = ", ".join(f"{value:.4f}" for value in sample[BUNDLES[server].TARGET][0][:5])
    assert f"the answer begins with {answer}, …" in (folder / "README.md").read_text()
    assert "-d @request.json" in (folder / "README.md").read_text()


def test_the_edge_program_says_how_it_is_called(bundles):
    command = [sys.executable, "predict.py", "--help"]
    done = subprocess.run(command, cwd=bundles["edge"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "raw values of the shape (n, 8, 8, 1)" in " ".join(done.stdout.split())


@pytest.mark.parametrize("server", SERVERS)
def test_the_same_version_gives_the_same_bytes(server, bundles, contents, tmp_path):
    bundle(tmp_path, server, contents)
    assert digest_folder(tmp_path) == digest_folder(bundles[server])


@pytest.mark.parametrize("server", SERVERS)
def test_the_readme_says_how_to_start_it(server, bundles):
    text = (bundles[server] / "README.md").read_text()
    assert BUNDLES[server].START in text
    assert "{{" not in text
    for section in ("What it is", "When it fails"):
        assert f"\n## {section}\n" in text
    words = " ".join(text.split())
    not_run = {"tfserving": "TensorFlow Serving itself was not run", "kserve": "No cluster was run"}
    not_run |= {"triton": "ran neither Triton nor TensorRT", "docker": "The image was not built", "edge": ""}
    assert not_run[server] in words, "it says what was not run"
    assert ("tests start Triton's own server" in words) == (server == "triton")


@pytest.mark.parametrize(
    ("server", "target"), [("tfserving", "savedmodel"), ("triton", "onnxruntime"), ("edge", "litert")]
)
def test_a_target_that_is_missing_is_named(server, target, version, tmp_path):
    evidence = version.evidence
    files = tuple(file for file in evidence.files if file.target != target)
    without = OpenVersion(version.uri, version.folder, evidence.model_copy(update={"files": files}))
    with pytest.raises(
        TargetMissing, match=rf"no file for {target}.*`targets: \[.*{target}\]` into its recipe"
    ) as caught:
        bundle(tmp_path, server, Contents("tiny", 1, without, CONFIG))
    assert caught.value.exit_code == 2


def declared(name: str, fields: dict[str, str]) -> object:
    """A message class with optional fields, by name: for the two schemas that tensorflow-serving-api leaves out.

    They are session_bundle_config.proto and monitoring_config.proto of TensorFlow Serving; text needs no field numbers.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"tests/{name}.proto", package="tests", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    if any(kind.startswith(".tests.") for kind in fields.values()):
        file.dependency.append("tests/PrometheusConfig.proto")
    message = file.message_type.add(name=name)
    for number, (field, kind) in enumerate(fields.items(), 1):
        what = {"type": kinds.TYPE_MESSAGE, "type_name": kind} if kind[0] == "." else {"type": getattr(kinds, kind)}
        message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL, **what)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tests.{name}"))()


def test_tensorflow_serving_s_schemas_take_its_files(bundles):
    from tensorflow_serving.config import model_server_config_pb2

    folder = bundles["tfserving"]

    def parsed(name, message):
        return text_format.Parse((folder / "config" / name).read_text(), message)

    (model,) = parsed("models.config", model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (model.name, model.model_platform) == ("tiny", "tensorflow")
    assert list(model.model_version_policy.specific.versions) == [1]
    assert (folder / model.base_path.lstrip("/") / "1" / "saved_model.pb").is_file()
    counts = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    batching = parsed("batching.config", declared("Batching", dict.fromkeys(counts, ".google.protobuf.Int64Value")))
    assert [getattr(batching, count).value for count in counts] == [16, 250, 100, 3]
    declared("PrometheusConfig", {"enable": "TYPE_BOOL", "path": "TYPE_STRING"})
    monitoring = parsed("monitoring.config", declared("Monitoring", {"prometheus_config": ".tests.PrometheusConfig"}))
    assert monitoring.prometheus_config.enable
    assert monitoring.prometheus_config.path.startswith("/")


def test_the_warm_up_record_is_one_and_is_answered(bundles, contents):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    model = bundles["tfserving"] / "models" / "tiny" / "1"
    records = list(
        tf.data.TFRecordDataset(str(model / "assets.extra" / "tf_serving_warmup_requests")).as_numpy_iterator()
    )
    assert 1 <= len(records) <= 1000, "TensorFlow Serving refuses more"
    request = prediction_log_pb2.PredictionLog.FromString(records[0]).predict_log.request
    function = tf.saved_model.load(str(model)).signatures[request.model_spec.signature_name]
    (answers,) = function(
        **{name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
    ).values()
    assert answers.shape[1:] == (10,)
    np.testing.assert_allclose(answers.numpy().sum(axis=1), 1, atol=1e-5)


def test_saved_model_cli_runs_the_signature(bundles, contents, tmp_path):
    model = bundles["tfserving"] / "models" / "tiny" / "1"
    np.save(tmp_path / "x.npy", contents.sample()["examples"])
    command = [
        BIN / "saved_model_cli",
        "run",
        "--dir",
        model,
        "--tag_set",
        "serve",
        "--signature_def",
        "serving_default",
    ]
    command += ["--inputs", f"input={tmp_path / 'x.npy'}", "--outdir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (answers,) = [np.load(file) for file in tmp_path.glob("*.npy") if file.name != "x.npy"]
    np.testing.assert_allclose(answers, contents.sample()["savedmodel"], atol=1e-5)


@pytest.mark.parametrize(("repository", "target"), [("gpu", "tensorrt"), ("cpu", "onnxruntime")])
def test_triton_s_schema_takes_its_files_and_they_fit_the_onnx_file(repository, target, bundles, contents, signature):
    from tritonclient.grpc import model_config_pb2

    model = bundles["triton"] / repository / "tiny"
    config = text_format.Parse((model / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    for configured, expected in zip((config.input, config.output), signature[target], strict=True):
        names = {"FLOAT": "TYPE_FP32"}
        says = [(each.name, model_config_pb2.DataType.Name(each.data_type), list(each.dims)) for each in configured]
        assert says == [(name, names[kind], shape) for name, kind, shape in expected]
    assert config.max_batch_size == 16
    assert config.dynamic_batching.max_queue_delay_microseconds == 250
    (group,) = config.instance_group
    kinds = model_config_pb2.ModelInstanceGroup
    assert group.count == 3
    assert group.kind == (kinds.KIND_GPU if repository == "gpu" else kinds.KIND_CPU)
    accelerators = {
        each.name: each.parameters for each in config.optimization.execution_accelerators.gpu_execution_accelerator
    }
    if repository == "gpu":
        assert accelerators["tensorrt"]["precision_mode"] == "INT8"
        assert accelerators["tensorrt"]["trt_profile_max_shapes"] == "input:16x8x8x1"
    else:
        assert not accelerators
    (warm,) = config.model_warmup
    (first_input,) = warm.inputs.values()
    example = np.frombuffer((model / "warmup" / first_input.input_data_file).read_bytes(), np.float32).reshape(
        list(first_input.dims)
    )
    np.testing.assert_array_equal(example, contents.sample()["examples"][0])
    assert digest_file(model / "1" / "model.onnx") == digest_file(contents.files("triton", target) / "model.onnx")
    assert (model / config.output[0].label_filename).read_text().split() == [str(digit) for digit in range(10)]


@pytest.mark.parametrize("server", ["tfserving", "triton", "docker"])
def test_compose_keeps_the_specification_and_to_loopback(server, bundles):
    file = bundles[server] / "compose.yaml"
    command = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, service in yaml.safe_load(file.read_text())["services"].items():
        assert service["ports"], name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "build" in service or re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?(-\w+)*", service["image"]), name
        if server == "triton":
            devices = service["deploy"]["resources"].get("reservations", {}).get("devices")
            assert bool(devices) == (name == "triton-gpu")


@pytest.mark.parametrize("server", ["docker", "kserve"])
def test_the_image_is_small_and_not_root(server, bundles):
    folder = bundles[server] / ("server" if server == "kserve" else ".")
    done = subprocess.run([BIN / "hadolint", folder / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    lines = (folder / "Dockerfile").read_text().splitlines()
    assert "USER 10001:10001" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    for source in (line.split()[1] for line in lines if re.match(r"COPY (?!--)", line)):
        assert (folder / source).exists(), source
    pins = dict(line.split("==") for line in (folder / "requirements.txt").read_text().splitlines())
    assert {"kserve", "onnxruntime", "onnx", "onnx-ir", "numpy", "pydantic", "uvicorn", "grpcio"} <= set(pins)
    assert not set(pins) & {"tensorflow", "tf-keras", "mlflow", "prefect", "tf2onnx", "scikit-learn"}


def fields_known(file: Path, kind: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: kserve's protos and tritonclient's have the same names, and no process takes both."""
    command = [sys.executable, Path(__file__).parent / "support" / "kubernetes_fields.py", kind, file]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_kserve_s_models_take_its_resources(bundles, tmp_path):
    for name, kind in (("inference-service", "V1beta1InferenceService"), ("serving-runtime", "V1alpha1ServingRuntime")):
        done = fields_known(bundles["kserve"] / f"{name}.yaml", kind)
        assert done.returncode == 0, done.stderr
    ours = Path(__file__).parent.parent / "deployments" / "serving" / "cluster-serving-runtime.yaml"
    done = fields_known(ours, "V1alpha1ClusterServingRuntime")
    assert done.returncode == 0, done.stderr
    service = yaml.safe_load((bundles["kserve"] / "inference-service.yaml").read_text())
    runtime = yaml.safe_load((bundles["kserve"] / "serving-runtime.yaml").read_text())
    predictor = service["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"], predictor["canaryTrafficPercent"]) == (1, 4, 25)
    assert predictor["model"]["storageUri"] == "pvc://slimline-models/tiny/1"
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"]
    (container,) = runtime["spec"]["containers"]
    assert container["securityContext"]["runAsNonRoot"]
    assert container["args"][0] == "/mnt/models"
    service["spec"]["predictor"]["replicas"] = 1
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(service))
    done = fields_known(tmp_path / "wrong.yaml", "V1beta1InferenceService")
    assert "predictor.replicas: V1beta1PredictorSpec has no such field" in done.stderr


@pytest.mark.parametrize(("name", "service"), [("tiny", "tiny"), ("my_model", "my-model"), ("8bit", "model-8bit")])
def test_a_registered_name_becomes_one_that_kubernetes_allows(name, service):
    assert BUNDLES["kserve"].service_name(name) == service


def test_the_edge_file_is_what_was_measured_and_its_metadata_are_true(bundles, contents):
    folder = bundles["edge"]
    assert digest_file(folder / "model.tflite") == digest_file(contents.files("edge", "litert") / "model.tflite")
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["labels"] == [str(digit) for digit in range(10)]
    assert metadata["precision"] == "int8"
    assert metadata["input"]["shape"] == [1, 8, 8, 1]
    assert metadata["input"]["range_of_the_examples"] == [0, 16]
    assert len((folder / "predict.py").read_text().splitlines()) < 30


def test_nothing_of_this_machine_is_in_a_bundle(bundles):
    for folder in bundles.values():
        for file in folder.rglob("*"):
            if file.suffix in (".md", ".yaml", ".txt", ".config", ".pbtxt", ".py") or file.name == "Dockerfile":
                assert str(Path.home()) + "/" not in file.read_text(), file
                assert str(Path(__file__).parent.parent) not in file.read_text(), file


def test_a_copy_is_enough_for_the_archive(bundles, tmp_path):
    from tasks.bundle import _archive

    first = _archive(bundles["edge"], "tiny")
    shutil.copytree(bundles["edge"], tmp_path / "copy")
    for file in (tmp_path / "copy").rglob("*"):
        if file.is_file():
            os.utime(file, (1, 1))
            file.chmod(0o400)
    assert _archive(tmp_path / "copy", "tiny") == first, "neither times nor permissions are in it"
