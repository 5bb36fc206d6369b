from __future__ import annotations

import numpy as np
import pytest

from backend.data.splitting import sample, split
from backend.errors import UserError

HALVES = {"validation": 0.1, "test": 0.2}


def counts(groups: list[int], rows: np.ndarray[tuple[int], np.dtype[np.int_]]) -> list[int]:
    return np.bincount(np.asarray(groups)[rows], minlength=max(groups) + 1).tolist()


def test_parts_have_exactly_their_share_and_no_row_in_common() -> None:
    groups = [row % 3 for row in range(1003)]

    parts = split(groups, HALVES, seed=1)

    assert {name: len(rows) for name, rows in parts.items()} == {"train": 702, "validation": 100, "test": 201}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(1003))
    assert all((np.diff(rows) > 0).all() for rows in parts.values())


def test_every_part_keeps_the_share_of_every_class() -> None:
    groups = [0] * 700 + [1] * 200 + [2] * 100

    parts = split(groups, HALVES, seed=1)

    assert counts(groups, parts["validation"]) == [70, 20, 10]
    assert counts(groups, parts["test"]) == [140, 40, 20]


def test_a_class_with_a_row_for_every_part_is_in_every_part() -> None:
    groups = [0] * 97 + [1] * 3

    parts = split(groups, {"validation": 0.1, "test": 0.1}, seed=1)

    assert [counts(groups, rows)[1] for rows in parts.values()] == [1, 1, 1]
    assert len(parts["test"]) == 10


def test_a_single_row_of_a_class_is_trained_on() -> None:
    groups = [0] * 20 + [1]

    assert all(20 in split(groups, HALVES, seed=seed)["train"] for seed in range(20))


def test_the_seed_decides_and_nothing_else() -> None:
    groups = [row % 2 for row in range(200)]

    first, again, other = (split(groups, HALVES, seed=seed)["test"].tolist() for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_nothing_is_split_off_without_fractions() -> None:
    assert split([0, 1, 1], {}, seed=1)["train"].tolist() == [0, 1, 2]


def test_too_few_rows_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UserError) as caught:
        split([0, 1, 1], {"validation": 0.1, "test": 0.1}, seed=1)

    assert str(caught.value) == (
        "3 rows are too few: 1 for validation and 1 for test are to be split off, and training needs a row of each of "
        "the 2 classes. Give more rows, lower data.validation_fraction or data.test_fraction, or name files of your "
        "own as data.validation and data.test"
    )


def test_many_classes_divide_exactly() -> None:
    groups = [row % 150 for row in range(1500)]

    parts = split(groups, {"validation": 0.1, "test": 0.1}, seed=3)

    assert set(counts(groups, parts["validation"])) == {1}
    assert set(counts(groups, parts["train"])) == {8}


def test_a_sample_keeps_the_share_of_every_class() -> None:
    groups = [0] * 900 + [1] * 100

    rows = sample(groups, 50, seed=1)

    assert counts(groups, rows) == [45, 5]
    assert (np.diff(rows) > 0).all()


def test_a_sample_has_every_class_that_fits() -> None:
    groups = [0] * 999 + [1]

    assert counts(groups, sample(groups, 2, seed=1)) == [1, 1]


def test_a_sample_of_more_rows_than_there_are_is_all_of_them() -> None:
    assert sample([0, 1, 0], 10, seed=1).tolist() == [0, 1, 2]
