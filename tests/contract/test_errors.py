import copy
import pickle

from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import RecipeError, shown

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(plain)
def test_a_value_is_shown_as_python_writes_it_and_cut_off(value):
    text = repr(value)
    assert shown(value) == (text if len(text) <= 200 else text[:200] + "…")


def test_what_holds_itself_many_times_is_shown_as_fast_as_anything():
    bomb: object = "x"
    for _ in range(200):
        bomb = [bomb] * 10
    error = RecipeError("name", bomb, "must be a name")
    assert str(error).startswith("name: [[[[")
    assert len(str(error)) < 250


def test_an_error_crosses_processes_whole():
    error = RecipeError("seed", -1, "must not be negative")
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(again), again.field, again.value) == (str(error), "seed", -1)
