"""A version with several named inputs and outputs, asked through MLflow: by name, whatever its file."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import several_ends

from tasks.contract.errors import SmokeTestFailed
from tasks.contract.named import fields
from tasks.data.artifact import DataArtifact
from tasks.evidence.card import render_card
from tasks.formats.slimline_pyfunc import File, Table, TensorSpec
from tasks.versions.labels import read_labels
from tasks.versions.recorded_answers import compare_answers

TARGETS = ("onnxruntime", "litert", "savedmodel")


@pytest.fixture(scope="module", params=TARGETS)
def laid_out(request, tmp_path_factory):
    return several_ends.lay_out(tmp_path_factory.mktemp("two") / "version", request.param)


@pytest.fixture(scope="module")
def loaded(laid_out):
    import mlflow

    return mlflow.pyfunc.load_model(str(laid_out[0].folder))


def same(answers: dict, expected: np.ndarray) -> None:
    assert list(answers) == ["kind", "box"]
    for name, values in fields(expected).items():
        np.testing.assert_allclose(answers[name], values, rtol=1e-4, atol=1e-4)
        assert answers[name].dtype == np.float32


def test_the_signature_has_every_tensor_in_the_model_s_order(loaded):
    signature = loaded.metadata.signature
    assert [(each.name, each.shape, each.type) for each in signature.inputs.inputs] == [
        ("scene", (-1, 6, 6, 1), np.float32),
        ("facts", (-1, 3), np.float32),
    ]
    assert [(each.name, each.shape) for each in signature.outputs.inputs] == [("kind", (-1, 3)), ("box", (-1, 2))]


def test_arrays_are_answered_by_name(loaded, laid_out):
    _, x, y = laid_out
    same(loaded.predict(fields(x)), y)
    same(loaded.predict({name: values[:1] for name, values in reversed(fields(x).items())}), y[:1])


def test_a_row_of_a_data_frame_is_an_example(loaded, laid_out):
    _, x, y = laid_out
    frame = pd.DataFrame({name: list(values) for name, values in fields(x).items()})
    same(loaded.predict(frame), y)
    flat = pd.DataFrame({name: values.reshape(len(x), -1).tolist() for name, values in fields(x).items()})
    same(loaded.predict(flat.assign(more=1)), y)


def test_lists_are_taken_where_mlflow_checks_nothing(loaded, laid_out):
    _, x, y = laid_out
    same(loaded._model_impl.predict({name: values.tolist() for name, values in fields(x).items()}), y)
    frame = pd.DataFrame({name: values.tolist() for name, values in fields(x).items()})
    same(loaded._model_impl.predict(frame), y)


WRONG = {
    "alone": (lambda x: x["facts"], "inputs ndarray: the model takes 'scene', 'facts'"),
    "missing": (lambda x: {"facts": x["facts"]}, "inputs 'facts': the model takes 'scene', 'facts'"),
    "more": (lambda x: {**x, "more": x["facts"]}, "inputs 'scene', 'facts', 'more': the model takes"),
    "shape": (
        lambda x: {**x, "facts": x["facts"][:, :2]},
        r"facts: float32 with the shape \(16, 2\).*numbers \(n, 3\)",
    ),
    "text": (lambda x: {**x, "facts": [["a", "b", "c"]]}, "facts: <U1 with the shape"),
    "ragged": (lambda x: {**x, "facts": [[1.0, 2.0], [1.0]]}, "facts: its examples have shapes of their own"),
    "fewer": (lambda x: {**x, "facts": x["facts"][:3]}, "inputs of unlike many examples: scene 16, facts 3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(loaded, laid_out, case):
    spoil, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        loaded._model_impl.predict(spoil(fields(laid_out[1])))


def test_the_smoke_test_compares_output_by_output(laid_out, tmp_path):
    from tasks.smoke_test import smoke

    version, _, y = laid_out
    result = smoke(str(version.folder), version, tmp_path)
    assert result.largest_difference < 1e-2
    assert result.largest_answer == pytest.approx(np.abs(y["box"]).max(), rel=1e-4)
    turned = y.copy()
    turned["kind"] = y["kind"][::-1]  # far below what would be noise of the other output
    with pytest.raises(SmokeTestFailed, match=r"answers 1[0-9] of 16 examples by kind otherwise"):
        compare_answers(y, turned, "it")
    with pytest.raises(SmokeTestFailed, match="by the outputs one without a name, recorded were kind, box"):
        compare_answers(y, y["kind"], "it")


def test_labels_are_each_output_s(laid_out):
    folder = laid_out[0].folder
    assert read_labels(folder) == {"kind": ["cat", "dog", "eel"], "box": []}
    assert json.loads((folder / "labels.json").read_text()) == read_labels(folder)


def card(version) -> str:
    data = DataArtifact(
        stage="prepare",
        sha256="d" * 64,
        uri="runs:/1/profile",
        run="1",
        digest="d" * 64,
        input_shapes=several_ends.INPUTS,
        heads=several_ends.HEADS,
        counts={"train": 1200, "validation": 100, "test": 200},
    )
    types = dict.fromkeys(several_ends.INPUTS, "float32")
    said = {"name": "two", "description": "", "types": types, "lineage": {}, "links": {}}
    return render_card(evidence=version.evidence, data=data, **said)


def test_the_card_tells_each_input_and_output_and_its_code_runs(laid_out):
    version = laid_out[0]
    text = card(version)
    assert "| scene | `(batch, 6, 6, 1)` | float32 |\n| facts | `(batch, 3)` | float32 |\n" in text
    assert "| kind | `(batch, 3)` | classification | accuracy | 0.95 |" in text
    assert "| box | `(batch, 2)` | regression | mae | 0.95 |" in text
    assert "kind: 0: cat, 1: dog, 2: eel." in text
    assert not re.search(r"\n{3,}", text)
    by_mlflow, by_onnxruntime = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    blocks = [by_mlflow.replace("models:/two@candidate", str(version.folder))]
    if version.default().target == "onnxruntime":
        blocks.append(by_onnxruntime.replace("model.onnx", str(version.folder / "model.onnx")))
    for block in blocks:
        names = {}
        exec(block, names)
        assert (names["kind"].shape, names["box"].shape) == ((1, 3), (1, 2))


def test_a_table_s_answers_are_columns_by_output():
    """Of a DataFrame; of an array they are arrays by output."""
    inputs = (TensorSpec("table", "float32", (2,)),)
    outputs = (
        TensorSpec("kind", "float32", (2,)),
        TensorSpec("price", "float32", (1,)),
        TensorSpec("sold", "float32", (1,)),
    )
    heads = [
        {"name": "kind", "classes": ["flat", "house"]},
        {"name": "price", "target_columns": ["price"]},
        {"name": "sold", "classes": ["no", "yes"]},  # one sigmoid
    ]

    def ask(x):
        return {"kind": x["table"], "price": x["table"].sum(axis=1, keepdims=True), "sold": x["table"][:, :1]}

    model = Table(File(inputs, outputs, ask), {"columns": ["age", "size"], "heads": heads})
    answers = model.predict(pd.DataFrame({"size": [3, 4], "age": [1, 2]}, index=[7, 9]))
    assert answers.to_dict("list") == {"kind/flat": [1, 2], "kind/house": [3, 4], "price": [4, 6], "sold/yes": [1, 2]}
    assert list(answers.index) == [7, 9]
    assert list(model.predict(np.ones((3, 2)))) == ["kind", "price", "sold"]
