"""Splits share no content, keep their shares, and depend on content and seed alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data.splits import SPLITS, apportion, assign

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

CONTENTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), min_size=1, max_size=120)


def drawn(rows: list[tuple[int, int]], seed: int = 0, **shares: float) -> dict[str, np.ndarray]:
    digests = np.array([content for content, _ in rows], np.uint64)
    strata = np.array([label for _, label in rows], np.int64)
    options = {"validation": 0.2, "test": 0.3} | shares
    members, *left_out = assign({"all": digests}, {"all": strata}, seed=seed, **options)
    assert left_out == [0, 0]
    return {split: mask for split, (_, mask) in members.items()}


@given(CONTENTS, st.integers(0, 2**62))
def test_every_row_stands_in_one_split_and_no_content_in_two(rows: list[tuple[int, int]], seed: int) -> None:
    masks = drawn(rows, seed)
    np.testing.assert_array_equal(sum(mask.astype(int) for mask in masks.values()), 1)
    contents = [{rows[place][0] for place in np.flatnonzero(masks[split])} for split in SPLITS]
    assert not contents[0] & contents[1]
    assert not contents[0] & contents[2]
    assert not contents[1] & contents[2]


@given(st.lists(st.integers(20, 60), min_size=1, max_size=5), st.integers(0, 1000))
def test_shares_are_exact_and_stratified(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    contents = np.random.default_rng(seed).permutation(10**6)[: len(labels)]
    masks = drawn(list(zip(contents.tolist(), labels.tolist(), strict=True)), seed)
    assert np.count_nonzero(masks["test"]) == round(0.3 * len(labels))
    assert np.count_nonzero(masks["validation"]) == round(0.2 * len(labels))
    for split, share in (("test", 0.3), ("validation", 0.2)):
        counts = np.bincount(labels[masks[split]], minlength=len(sizes))
        assert np.abs(counts - share * np.array(sizes)).max() <= 1.5


@given(CONTENTS, st.randoms())
def test_the_order_of_distinct_rows_does_not_matter(rows: list[tuple[int, int]], random: object) -> None:
    rows = list({content: (content, label) for content, label in rows}.values())
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for split in SPLITS:
        here = {rows[place] for place in np.flatnonzero(drawn(rows)[split])}
        there = {shuffled[place] for place in np.flatnonzero(drawn(shuffled)[split])}
        assert here == there


def test_another_seed_draws_others() -> None:
    rows = [(number, 0) for number in range(1000)]
    one, other = drawn(rows, 0)["test"], drawn(rows, 1)["test"]
    assert 0.2 < np.count_nonzero(one & other) / 300 < 0.4  # by chance 0.3


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40), st.lists(st.integers(0, 12), min_size=1, max_size=40))
@settings(max_examples=200)
def test_a_given_test_part_wins(train: list[int], test: list[int]) -> None:
    digests = {"train": np.array(train, np.uint64), "test": np.array(test, np.uint64)}
    strata = {part: np.zeros(len(values), np.int64) for part, values in digests.items()}
    members, left_out, _ = assign(digests, strata, validation=0.2, test=0.2, seed=3)
    assert members["test"][1].all()
    assert left_out == sum(content in set(test) for content in train)
    kept = np.count_nonzero(members["train"][1]) + np.count_nonzero(members["validation"][1])
    assert kept + left_out == len(train)


def test_given_validation_gives_way_to_test_and_wins_over_train() -> None:
    digests = {"train": [1, 2, 3, 4], "validation": [3, 5], "test": [5, 1]}
    parts = {part: np.array(values, np.uint64) for part, values in digests.items()}
    strata = {part: np.zeros(len(values), np.int64) for part, values in digests.items()}
    members, left_out, _ = assign(parts, strata, validation=0.2, test=0.2, seed=0)
    assert members["train"][1].tolist() == [False, True, False, True]
    assert members["validation"][1].tolist() == [True, False]
    assert left_out == 3


def test_a_rare_class_is_in_every_split() -> None:
    rows = [(number, 0) for number in range(97)] + [(1000 + number, 1) for number in range(3)]
    masks = drawn(rows, test=0.1, validation=0.1)
    assert all(mask[97:].sum() == 1 for mask in masks.values())


@given(st.lists(st.integers(1, 200), min_size=1, max_size=8), st.floats(0.05, 0.45))
def test_apportioning_adds_up(sizes: list[int], share: float) -> None:
    count = round(share * sum(sizes))
    quotas = apportion(np.array(sizes, np.int64), count)
    assert quotas.sum() >= count
    assert (quotas >= 1).all()
    if count * min(sizes) >= sum(sizes):
        assert quotas.sum() == count


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_seeds_at_the_bounds(seed: int) -> None:
    with np.errstate(all="raise"):
        assert np.count_nonzero(drawn([(number, 0) for number in range(10)], seed)["test"]) == 3
