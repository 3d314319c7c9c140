"""How much channels matter, which go, and the model that is left: against closed forms and by what comes out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.recipe import Recipe
from tasks.channels import file_costs, kept_masks
from tasks.channels.config import ChannelConfig, Goal
from tasks.channels.graph import graph_of
from tasks.channels.importance import magnitude, norm_scale, taylor
from tasks.channels.select import fewest, order
from tasks.channels.shrink import shrink, widths
from tasks.contract.errors import PruningFailed
from tasks.data import DataConfig, open_data
from tasks.formats import FORMATS
from tasks.formats.keras import files as keras
from tasks.measuring.timing import time_anew
from tasks.prune import PruneConfig, prune
from tasks.quantize import QuantizeConfig, quantize
from tasks.training.loop import FitConfig
from tasks.training.losses import Teaching
from tasks.training.weight_sparsity import sparsity_by_layer

QUICK = FitConfig(epochs=1, batch_size=64, learning_rate=1e-3)


@pytest.fixture(scope="module")
def data():
    return open_data(DataConfig(limit=300))


@pytest.fixture(scope="module")
def model():
    """12, 16 and 24 channels, the middle ones twice, in a residual."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(4)
    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 1), name="input")
    x = layers.Rescaling(1 / 16, name="scale")(inputs)
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="first")(x)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="second")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    y = layers.Conv2D(16, 3, padding="same", name="third")(x)
    x = layers.Add(name="add")([x, y])
    x = layers.Dense(24, activation="relu", name="hidden")(layers.Flatten(name="flat")(x))
    return tf.keras.Model(inputs, layers.Dense(10, activation="softmax", name="probabilities")(x), name="small")


@pytest.fixture(scope="module")
def graph(model):
    return graph_of(model)


def linear(weights, readers):
    """One hidden layer of units without activation, read by one output."""
    import tensorflow as tf

    inputs = tf.keras.Input((len(weights),), name="input")
    x = tf.keras.layers.Dense(len(readers), use_bias=False, name="hidden")(inputs)
    out = tf.keras.layers.Dense(1, use_bias=False, name="out")(x)
    made = tf.keras.Model(inputs, out)
    made.set_weights([np.asarray(weights, np.float32), np.asarray(readers, np.float32)[:, None]])
    return made


def test_norms_are_compared_with_their_layers_mean():
    graph = graph_of(linear([[3.0, 0.0, 1.0], [4.0, 2.0, 0.0]], [1.0, 1.0, 1.0]))
    np.testing.assert_allclose(magnitude(graph, 1), np.array([7, 2, 1]) / (10 / 3))
    np.testing.assert_allclose(magnitude(graph, 2), np.array([5, 2, 1]) / (8 / 3))


def test_the_scale_of_a_normalisation_counts_whatever_its_sign(model):
    import tensorflow as tf

    copy = tf.keras.models.clone_model(model)
    gamma = np.linspace(-1, 2, 16)
    copy.get_layer("norm").set_weights([gamma, *copy.get_layer("norm").get_weights()[1:]])
    graph = graph_of(copy)
    scales = dict(zip(graph.makers, (norm_scale(graph)[group] for group in graph.groups), strict=True))
    np.testing.assert_allclose(scales["second", "third"], np.abs(gamma), rtol=1e-6)
    assert np.isinf(scales["first",]).all(), "no normalisation scales these, so they stay"
    assert np.isinf(scales["hidden",]).all()


@settings(max_examples=10)  # each makes a graph of TensorFlow
@given(seed=st.integers(0, 100))
def test_taylor_is_the_slope_of_the_loss_as_a_channel_fades(seed):
    """Of a squared error of one linear output the slope is 2 * error * what the channel adds to the output."""
    import tensorflow as tf

    draw = np.random.default_rng(seed)
    weights, readers = draw.normal(0, 1, (3, 4)), draw.normal(0, 1, 4)
    x, y = draw.normal(0, 1, (5, 3)).astype(np.float32), draw.normal(0, 1, 5).astype(np.float32)
    graph = graph_of(linear(weights, readers))

    def loss(expected, predictions):
        return tf.reduce_mean(tf.square(predictions[:, 0] - expected))

    scores = taylor(graph, [(x, y), (x[:2], y[:2])], loss)
    adds = (x @ weights) * readers  # (examples, units)

    def slope(rows):
        error = adds[rows].sum(axis=1) - y[rows]
        return (2 * error[:, None] * adds[rows]).mean(axis=0)

    np.testing.assert_allclose(scores, (slope(slice(5)) ** 2 + slope(slice(2)) ** 2) / 2, rtol=1e-3, atol=1e-5)


def test_taylor_agrees_with_removing_a_little(model, data):
    """In a model that is not linear, in a residual: against the difference that a small step makes."""
    import tensorflow as tf

    from tasks.training.losses import cross_entropy

    x, y = data.sample("train", 64)
    graph = graph_of(model)
    scores = taylor(graph, [(tf.constant(x), tf.constant(y))], cross_entropy)
    unit = max(graph.groups[1], key=lambda each: scores[each])
    step, losses = 3e-3, []
    for sign in (-1, 1):
        faded = tf.keras.models.clone_model(graph.model)
        faded.set_weights(graph.model.get_weights())
        for reader, axis in (("third", 2), ("hidden", 0)):
            layer = faded.get_layer(reader)
            kernel, *rest = layer.get_weights()
            mine = graph.ends[reader].inputs == unit
            np.moveaxis(kernel, axis, 0)[mine] *= 1 + sign * step
            layer.set_weights([kernel, *rest])
        losses.append(float(cross_entropy(tf.constant(y), faded(x))))
    slope = (losses[1] - losses[0]) / (2 * step)
    assert scores[unit] == pytest.approx(slope**2, rel=0.02)


@given(
    seed=st.integers(0, 1000),
    floor=st.sampled_from([0.0, 0.125, 0.5]),
    multiple=st.sampled_from([1, 4, 8]),
    count=st.integers(0, 60),
)
def test_the_least_important_go_within_floor_and_multiple(graph, seed, floor, multiple, count):
    draw = np.random.default_rng(seed)
    scores = draw.random(graph.units)
    stays = order(graph, scores, floor, multiple)
    mask, more = stays(count), stays(count + 1)
    assert not (more & ~mask).any(), "asking for more never brings one back"
    for group in graph.groups:
        kept = int(mask[group].sum())
        assert kept >= max(1, floor * len(group))
        assert kept == len(group) or kept % multiple == 0
        if 0 < kept < len(group):
            assert scores[group][mask[group]].min() > scores[group][~mask[group]].max()
    if multiple == 1 and floor == 0 and count < graph.units - max(map(len, graph.groups)):
        assert (~mask).sum() <= count


@given(least=st.integers(0, 52), seed=st.integers(0, 100))
def test_no_more_go_than_are_enough(graph, least, seed):
    stays = order(graph, np.random.default_rng(seed).random(graph.units), 0.0, 1)
    count = fewest(stays, graph.units, lambda mask: mask.sum() <= least)
    if count is None:
        assert stays(graph.units).sum() > least
        return
    assert stays(count).sum() <= least
    assert count == 0 or stays(count - 1).sum() > least


def cut(model, data, **settings):
    return shrink(model, data, ChannelConfig(**settings), Goal(), None, lambda *_: None)


@pytest.mark.parametrize("criterion", ["taylor", "l1", "l2"])
def test_half_the_work_is_half_the_work_in_the_file_too(model, data, criterion, tmp_path):
    smaller = cut(model, data, of="macs", remove=0.5, criterion=criterion, multiple=1)
    work = []
    for each, place in ((model, tmp_path / "whole"), (smaller, tmp_path / "half")):
        place.mkdir()
        FORMATS["onnxruntime"].write(each, place, "float32", classes=())
        audit = FORMATS["onnxruntime"].audit(place, np.zeros((1, 8, 8, 1), np.float32))
        graph = graph_of(each)
        assert graph.macs(np.ones(graph.units, bool)) == audit.macs
        work.append(audit.macs)
    assert 0.42 < work[1] / work[0] <= 0.5


def test_the_same_again_gives_the_same_bytes(model, data, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        keras.write(cut(model, data, of="channels", remove=0.4, examples=64), tmp_path / name)
    assert (tmp_path / "a" / keras.FILE).read_bytes() == (tmp_path / "b" / keras.FILE).read_bytes()


def test_nothing_to_remove_is_the_same_model(model, data):
    same = cut(model, data, of="macs", remove=0)
    x = data.arrays("test")[0]
    np.testing.assert_array_equal(model(x), same(x))
    assert widths(cut(model, data)) == widths(model), "a budget without limits asks for nothing"


def test_in_steps_it_is_looked_at_anew(model, data):
    seen = []
    smaller = shrink(
        model,
        data,
        ChannelConfig(of="channels", remove=0.5, criterion="l1", multiple=1, steps=3),
        Goal(),
        None,
        lambda between, step: seen.append((step, sum(widths(between).values()))),
    )
    assert [step for step, _ in seen] == [1, 2]
    sizes = [sum(widths(model).values()), *(size for _, size in seen), sum(widths(smaller).values())]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4
    assert graph_of(smaller).units == pytest.approx(graph_of(model).units / 2, abs=1)


def test_cut_to_the_budgets_size(model, data, tmp_path):
    goal = Goal(min_size_ratio=3.0, precisions=("float32",))
    smaller = shrink(model, data, ChannelConfig(criterion="l1", multiple=1), goal, model, lambda *_: None)
    sizes = []
    for each in (model, smaller):
        FORMATS["onnxruntime"].write(each, tmp_path, "float32", classes=data.classes)
        sizes.append((tmp_path / "model.onnx").stat().st_size)
    assert 3.0 <= sizes[0] / sizes[1] < 4.0


def test_cut_until_one_of_the_precisions_that_may_ship_keeps_the_budget(model, data):
    """Integers are smaller already, so less is cut for them; nothing is cut as if in integers where floats ship."""

    def cut_for(*precisions):
        goal = Goal(min_size_ratio=2.0, precisions=precisions)
        return sum(
            widths(
                shrink(model, data, ChannelConfig(criterion="l1", multiple=1), goal, model, lambda *_: None)
            ).values()
        )

    floats, integers, either = cut_for("float32"), cut_for("int8"), cut_for("float32", "int8")
    assert floats < integers == either
    auto = {"name": "a", "quantize": {"method": "auto"}}
    assert Recipe(**auto, budget={"min_size_ratio": 2}).goal.precisions == ("float32", "int8")
    assert Recipe(**auto, budget={"min_size_ratio": 2, "min_integer_share": 0.5}).goal.precisions == ("int8",)


def test_cut_to_a_latency_that_was_measured(data):
    """Real files, really timed: how much goes is the machine's word, that something goes and not all is ours."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    x = inputs = tf.keras.Input((8, 8, 1), name="input")
    for name in "abc":  # enough work that the calls around it do not count
        x = layers.Conv2D(96, 5, padding="same", activation="relu", name=name)(x)
    wide = tf.keras.Model(inputs, layers.Dense(10, name="out")(layers.GlobalAveragePooling2D(name="mean")(x)))
    config = ChannelConfig(of="latency", remove=0.3, criterion="l1", multiple=16)
    smaller = shrink(wide, data, config, Goal(precisions=("float32",)), None, lambda *_: None)
    assert 96 * 3 > sum(widths(smaller).values()) - 10 > 0.125 * 96 * 3


@pytest.mark.parametrize("criterion", ["taylor", "l1", "l2", "norm_scale"])
def test_a_model_in_which_nothing_can_be_cut_is_refused_in_words(data, criterion):
    """Taylor ended with a traceback: no loss hangs on gates that are nowhere."""
    import tensorflow as tf

    inputs = tf.keras.Input(data.input.shape, name="image")
    flat = tf.keras.layers.Flatten(name="flat")(inputs)
    plain = tf.keras.Model(inputs, tf.keras.layers.Dense(10, activation="softmax", name="out")(flat))
    with pytest.raises(PruningFailed, match=r"remove = 0.5 of the macs is not reached.* 0 of 0 channels"):
        cut(plain, data, of="macs", remove=0.5, criterion=criterion, examples=32)
    assert cut(plain, data, criterion=criterion, examples=32).count_params() == plain.count_params()


def test_what_cannot_be_reached_is_refused(model, data):
    with pytest.raises(PruningFailed, match=r"remove = 0.99 of the macs is not reached: floor = 0.5 and multiple = 4"):
        cut(model, data, of="macs", remove=0.99, criterion="l1", floor=0.5)
    with pytest.raises(PruningFailed, match=r"budget.max_size_bytes = 10 is not reached"):
        shrink(model, data, ChannelConfig(criterion="l1"), Goal(max_size_bytes=10), model, lambda *_: None)


def pruned(model, data, config, checkpoints=None, report=lambda *_: None, goal=Goal()):  # noqa: B008  frozen
    about = {"teacher": model, "teaching": Teaching(), "seed": 0, "goal": goal}
    return prune(model, data, config, **about, report=report, checkpoints=checkpoints)


def test_channels_then_zeros_then_integers(model, data, tmp_path):
    config = PruneConfig(
        method="channels",
        channels=ChannelConfig(of="macs", remove=0.4, criterion="l2"),
        then="magnitude",
        sparsity=0.5,
        frequency=1,
        fit=QUICK,
    )
    smaller = pruned(model, data, config)
    assert sum(widths(smaller).values()) < sum(widths(model).values())
    assert all(share == pytest.approx(0.5, abs=0.03) for share in sparsity_by_layer(smaller).values())
    quantized = quantize(
        smaller,
        data,
        QuantizeConfig(method="training", fit=QUICK),
        teacher=None,
        teaching=Teaching(),
        seed=0,
        report=lambda *_: None,
    )
    FORMATS["onnxruntime"].write(quantized, tmp_path, "int8", classes=())
    audit = FORMATS["onnxruntime"].audit(tmp_path, data.sample("test", 1)[0])
    assert audit.integer_share == 1.0


def test_a_killed_cutting_in_steps_goes_on_to_the_same_weights(model, data, tmp_path):
    channels = ChannelConfig(of="channels", remove=0.4, steps=2, fit=QUICK, examples=64)
    config = PruneConfig(method="channels", channels=channels, fit=FitConfig(epochs=2, batch_size=64))
    epochs_reported = []
    whole = pruned(model, data, config, report=lambda epoch, epochs, _: epochs_reported.append((epoch, epochs)))
    assert epochs_reported == [(1, 3), (2, 3), (3, 3)]

    class KilledError(Exception):
        pass

    def die(epoch, *_):
        if epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        pruned(model, data, config, tmp_path, die)
    resumed = pruned(model, data, config, tmp_path)
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_killed_cutting_that_measured_goes_on_with_the_channels_that_were_chosen(model, data, tmp_path, monkeypatch):
    """A second measurement chose others, and the training of another model began anew."""
    timed, folder = [], tmp_path / "key"  # as a stage has it: what writes there makes it

    def counted(*arguments):
        timed.append(arguments)
        return time_anew(*arguments)

    monkeypatch.setattr(file_costs, "time_anew", counted)
    channels = ChannelConfig(criterion="l1", multiple=8)
    config = PruneConfig(method="channels", channels=channels, fit=QUICK)
    goal = Goal(min_size_ratio=1.5, max_latency_ms=10_000, precisions=("float32",))  # what is timed is fast enough

    class KilledError(Exception):
        pass

    def die(*_):
        raise KilledError

    with pytest.raises(KilledError):
        pruned(model, data, config, folder, die, goal)
    assert timed
    timed.clear()
    resumed = pruned(model, data, config, folder, goal=goal)
    assert timed == [], "nothing is measured again"
    graph = graph_of(model)
    identity = kept_masks.identity(graph.model, data.digest, channels, goal)
    mask = kept_masks.kept(folder, 1, identity, graph.units)
    assert widths(resumed) == widths(graph.cut(mask)) != widths(model)
    # what was chosen for another model, or is damaged, is as if there were none
    assert kept_masks.kept(folder, 1, "another", graph.units) is None
    assert kept_masks.kept(folder, 1, identity, graph.units + 1) is None
    file = folder / "mask1.npz"
    file.write_bytes(file.read_bytes()[:100])
    assert kept_masks.kept(folder, 1, identity, graph.units) is None


def test_a_teacher_without_a_student_is_cut_to_the_budget():
    assert Recipe(name="a", budget={"min_speedup": 4}).prune.method == "channels"
    assert Recipe(name="a", budget={"min_speedup": 4}).goal == Goal(min_speedup=4, precisions=("float32",))
    assert Recipe(name="a").prune.method == "none", "no limit asks for less"
    assert Recipe(name="a", budget={"min_speedup": 4}, student={"model": "cnn"}).prune.method == "none"
    assert Recipe(name="a", budget={"min_speedup": 4}, prune={"method": "none"}).prune.method == "none"


def test_zeros_behind_channels_need_channels():
    with pytest.raises(ValueError, match="then: 'magnitude' follows method 'channels'; the method is 'block'"):
        PruneConfig(method="block", then="magnitude")
