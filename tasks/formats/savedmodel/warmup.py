"""Warm-up records: requests that TensorFlow Serving sends itself when it loads a SavedModel, before anyone else does.

They lie in `assets.extra/tf_serving_warmup_requests` as a TFRecord of `tensorflow.serving.PredictionLog` (TensorFlow
Serving's guide "SavedModel Warmup"; apis/prediction_log.proto, predict.proto and model.proto). The package that holds
these messages, tensorflow-serving-api, would hold protobuf back for all of the environment, so the few fields that a
record has are declared here, with the numbers that those files give them.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FILE = "assets.extra/tf_serving_warmup_requests"


def write_warmup(folder: Path, inputs: dict[str, np.ndarray], signature: str) -> None:
    """Put one request into a SavedModel's folder.

    Args:
        folder: the SavedModel.
        inputs: a tensor `(batch, ...)` for each of the signature's inputs, by name.
        signature: which one to call.

    """
    import tensorflow as tf

    log = _prediction_log()()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    file = folder / FILE
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        writer.write(log.SerializeToString(deterministic=True))


def read_warmup(folder: Path) -> tuple[str, dict[str, np.ndarray]]:
    """The signature that a SavedModel's first warm-up record calls, and the tensors that it calls it with, by name."""
    import tensorflow as tf

    (content, *_) = tf.data.TFRecordDataset(str(folder / FILE)).as_numpy_iterator()
    request = _prediction_log().FromString(content).predict_log.request
    return request.model_spec.signature_name, {name: tf.make_ndarray(value) for name, value in request.inputs.items()}


@cache
def _prediction_log() -> Any:
    """The message class, with what a predict request needs of it."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from tensorflow.core.framework import tensor_pb2

    field = descriptor_pb2.FieldDescriptorProto
    tensor = tensor_pb2.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="slimline/warmup.proto", package="slimline.serving", syntax="proto3", dependency=[tensor.name]
    )

    def message(name: str, fields: dict[str, tuple[int, str]], into: Any = None) -> Any:
        made = (file.message_type if into is None else into).add(name=name)
        for label, (number, kind) in fields.items():
            what = {"type": field.TYPE_MESSAGE, "type_name": kind} if kind else {"type": field.TYPE_STRING}
            made.field.add(name=label, number=number, label=field.LABEL_OPTIONAL, **what)
        return made

    message("ModelSpec", {"name": (1, ""), "signature_name": (3, "")})
    request = message("PredictRequest", {"model_spec": (1, ".slimline.serving.ModelSpec")})
    entry = message("InputsEntry", {"key": (1, ""), "value": (2, ".tensorflow.TensorProto")}, request.nested_type)
    entry.options.map_entry = True
    request.field.add(
        name="inputs",
        number=2,
        label=field.LABEL_REPEATED,
        type=field.TYPE_MESSAGE,
        type_name=".slimline.serving.PredictRequest.InputsEntry",
    )
    message("PredictLog", {"request": (1, ".slimline.serving.PredictRequest")})
    message("PredictionLog", {"predict_log": (6, ".slimline.serving.PredictLog")})
    pool = descriptor_pool.Default()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("slimline.serving.PredictionLog"))
