"""Models with several named inputs and outputs at the door: put into the data's order, or refused with the way out."""

import numpy as np
import pytest
from named_ends import examples, heads, several, shapes

from tasks.contract.errors import ModelError
from tasks.contract.named import ONE, fields
from tasks.data.heads import Head
from tasks.formats.keras import files as keras
from tasks.keras_graph.asked import asked
from tasks.keras_graph.names import signature_names
from tasks.keras_graph.output_meaning import as_learned, meaning
from tasks.zoo import ModelConfig, check_model
from tasks.zoo.brought import bring


@pytest.fixture(scope="module")
def x():
    return examples()


@pytest.fixture(scope="module")
def expected(x):
    """By output, of the model as it is."""
    return dict(zip(("kind", "tags", "price"), several().predict(list(fields(x).values()), verbose=0), strict=True))


def same(answers, expected, names):
    assert answers.dtype.names == tuple(names)
    for name in names:
        np.testing.assert_allclose(answers[name], expected[name], rtol=1e-5, atol=1e-6)


def library(kind):
    import tensorflow as tf

    return pytest.importorskip("keras") if kind == 3 else tf.keras


@pytest.mark.parametrize(("version", "ending"), [(2, ".keras"), (2, ".h5"), (2, ""), (3, ".keras"), (3, ".h5")])
def test_a_files_inputs_and_outputs_are_put_into_the_datas_order(tmp_path, x, version, ending):
    model = several("words photo table", "price kind tags", library=library(version))
    path = tmp_path / f"model{ending}"
    model.save(path)
    check_model(ModelConfig(model=str(path)), shapes(), heads())
    brought = bring(str(path), shapes(), heads(), trust=False, field="teacher.model")
    assert signature_names(brought.model) == (["photo", "table", "words"], ["kind", "tags", "price"])
    assert [tensor.shape[1:] for tensor in brought.model.outputs] == [(3,), (4,), (2,)]
    assert {tensor.dtype.name for tensor in brought.model.inputs} == {"float32"}
    own = [fields(x)[name] for name in ("words", "photo", "table")]
    answers = dict(zip(("price", "kind", "tags"), model.predict(own, verbose=0), strict=True))
    same(brought.answers(x, 8), answers, ("kind", "tags", "price"))
    same(asked(brought.model, x), answers, ("kind", "tags", "price"))
    keras.write(brought.model, tmp_path)
    again = keras.load(tmp_path)
    assert signature_names(again) == signature_names(brought.model)
    same(asked(again, x), answers, ("kind", "tags", "price"))


@pytest.mark.parametrize("version", [2, 3])
def test_a_dict_names_inputs_and_outputs_by_its_keys(x, version):
    library_ = library(version)
    model = several(library=library_)
    words, table, photo = model.inputs[2], model.inputs[1], model.inputs[0]
    kind, tags, price = model.outputs
    source = library_.Model({"z": photo, "b": table, "m": words}, {"z-kind": kind, "a/tags": tags, "m": price})
    plain = keras.plain(source, "theirs", "model")
    assert signature_names(plain) == (["b", "m", "z"], ["a_tags", "m", "z_kind"])
    named = [
        head.model_copy(update={"name": name}) for head, name in zip(heads(), ("z_kind", "a_tags", "m"), strict=True)
    ]
    sizes = dict(zip(("z", "b", "m"), shapes().values(), strict=True))
    fitted = keras.fitted(plain, sizes, named, "theirs", "model")
    assert signature_names(fitted) == (["z", "b", "m"], ["z_kind", "a_tags", "m"])
    own = dict(zip("zbm", fields(x).values(), strict=True))
    answers = source.predict(own, verbose=0)
    renamed = {"z_kind": answers["z-kind"], "a_tags": answers["a/tags"], "m": answers["m"]}
    same(asked(fitted, x), renamed, ("z_kind", "a_tags", "m"))


def test_ids_are_given_to_a_model_in_its_own_type(tmp_path):
    import tensorflow as tf

    layers = tf.keras.layers
    ids, table = tf.keras.Input((3,), dtype="int32", name="ids"), tf.keras.Input((2,), name="table")
    x = layers.Concatenate()([layers.Flatten()(layers.Embedding(9, 2)(ids)), table])
    model = tf.keras.Model([ids, table], [layers.Dense(2, name="a")(x), layers.Dense(1, name="b")(x)])
    model.save(tmp_path / "model.h5")
    two = [Head(name=name, problem="regression", output_shape=(size,)) for name, size in (("b", 1), ("a", 2))]
    inputs = {"table": (2,), "ids": (3,)}
    brought = bring(str(tmp_path / "model.h5"), inputs, two, trust=False, field="model")
    draw = np.random.default_rng(0)
    x = np.empty(4, [("table", np.float32, (2,)), ("ids", np.float32, (3,))])
    x["table"], x["ids"] = draw.normal(size=(4, 2)), draw.integers(0, 9, (4, 3))
    a, b = model.predict([x["ids"].astype(np.int32), x["table"]], verbose=0)
    same(brought.answers(x, 2), {"a": a, "b": b}, ("b", "a"))
    same(asked(brought.model, x), {"a": a, "b": b}, ("b", "a"))


ANY = Head(problem="classification", output_shape=(3,))


@pytest.mark.parametrize(
    ("inputs", "data_heads", "says"),
    [
        (shapes(), [ANY], r"has the outputs kind, tags, price; the data have one target: give each a target "
         r"\(data.heads: \[\{name: kind, …\}, .*get_layer\('kind'\)\.output"),
        (shapes(), heads()[:2], "the data have the targets kind, tags: call them alike"),
        (shapes(), [heads()[0].model_copy(update={"name": "sort"}), *heads()[1:]], r"sort, tags, price.*'sort': …"),
        ({ONE: (8, 8, 3)}, heads(), "has the inputs photo, table, words; the data have one input: call them alike"),
        ({**shapes("photo table"), "text": (5,)}, heads(), "the data have the inputs photo, table, text"),
        ({**shapes(), "table": (5,)}, heads(), r"shape \(4,\) as its input table; the data's have \(5,\)"),
        (shapes(), [heads()[0].model_copy(update={"output_shape": (9,)}), *heads()[1:]], "its output kind gives pred"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_way_out(inputs, data_heads, says):
    with pytest.raises(ModelError, match=says):
        keras.fitted(keras.plain(several(), "theirs", "model"), inputs, data_heads, "theirs", "model")


def test_a_file_alone_tells_that_it_has_others(tmp_path):
    several().save(tmp_path / "model.h5")
    with pytest.raises(ModelError, match=r"^student\.model: .*has the outputs kind, tags, price; the data have one"):
        check_model(ModelConfig(model=str(tmp_path / "model.h5")), shapes(), [ANY], field="student")


def test_an_input_on_which_nothing_hangs_is_refused():
    import tensorflow as tf

    used, idle = tf.keras.Input((2,), name="used"), tf.keras.Input((2,), name="idle")
    model = tf.keras.Model([used, idle], tf.keras.layers.Dense(3)(used))
    with pytest.raises(ModelError, match="whatever its input idle is"):
        keras.fitted(model, {"used": (2,), "idle": (2,)}, [ANY], "theirs", "model")


def test_a_function_is_told_the_shapes_by_name(tmp_path, monkeypatch):
    (tmp_path / "theirs_named.py").write_text(
        "import tensorflow as tf\n"
        "def build(input_shape, output_shape):\n"
        "    ends = {name: tf.keras.Input(shape, name=name) for name, shape in input_shape.items()}\n"
        "    x = tf.keras.layers.Concatenate()([tf.keras.layers.Flatten()(end) for end in ends.values()])\n"
        "    give = {name: tf.keras.layers.Dense(*shape)(x) for name, shape in output_shape.items()}\n"
        "    return tf.keras.Model(ends, give)\n"
    )
    monkeypatch.chdir(tmp_path)
    x = examples()
    brought = bring("theirs_named:build", shapes(), heads(), trust=False, field="model")
    assert signature_names(brought.model) == (["photo", "table", "words"], ["kind", "tags", "price"])
    answers = asked(brought.model, x)
    same(brought.answers(x, 32), answers, ("kind", "tags", "price"))
    assert [answers[head.name].shape[1:] for head in heads()] == [(3,), (4,), (2,)]


def test_one_tensor_may_be_two_outputs_and_an_input_one():
    import tensorflow as tf

    i = tf.keras.Input((2,), name="i")
    x = tf.keras.layers.Dense(3, name="d")(i)
    model = tf.keras.Model(i, {"one": x, "two": x, "same": i})
    sizes = {"two": 3, "one": 3, "same": 2}
    three = [Head(name=name, problem="regression", output_shape=(size,)) for name, size in sizes.items()]
    fitted = keras.fitted(model, {ONE: (2,)}, three, "theirs", "model")
    x = np.ones((2, 2), np.float32)
    answers = model(x)
    same(asked(fitted, x), answers, ("two", "one", "same"))


def test_each_output_means_something_of_its_own(x):
    model = keras.fitted(several(), shapes(), heads(), "theirs", "model")
    assert [meaning(model, number) for number in range(3)] == ["probabilities", "shares", "logits"]
    problems = [head.problem for head in heads()]
    assert as_learned(model, problems) is model
    shared = as_learned(model, ["classification", "classification", "multilabel"])
    assert signature_names(shared) == signature_names(model)
    answers, own = asked(shared, x), asked(model, x)
    np.testing.assert_allclose(answers["tags"].sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(answers["price"], 1 / (1 + np.exp(-own["price"])), rtol=1e-5)
    np.testing.assert_array_equal(answers["kind"], own["kind"])
