"""Columns of any type into texts, numbers, times and bags."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from autodim.data.bags import Bags, bags
from autodim.data.numeric import fit_scale, log_square_buckets, quantile_buckets, quantile_edges
from autodim.data.text import Coded, coded, numbers, times
from autodim.errors import DataError


def texts(column: Coded) -> list:
    return [None if c < 0 else column.values[int(c)].as_py() for c in column.codes]


def lists(column: Bags) -> list:
    flat = texts(column.items)
    return [flat[a:b] for a, b in zip(column.offsets[:-1], column.offsets[1:], strict=True)]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([9007199254740993, None, 7]), ["9007199254740993", None, "7"]),
        (pa.array([7.0, float("nan"), 0.5, -0.0, 1e20]), ["7", None, "0.5", "0", "1e+20"]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array(["007", "", "NA"]).dictionary_encode(), ["007", None, "NA"]),
        (pa.array([datetime.date(2013, 1, 31)]), ["2013-01-31"]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_texts_of_types(array, expected):
    assert texts(coded(array, [""])) == expected


def test_prefix_merges_and_missing_is_judged_before_it():
    assert texts(coded(pa.array(["12345", "12399", "?x", "?", None]), ["?"], prefix=1)) == ["1", "1", "?", None, None]
    assert len(coded(pa.array(["12", "13"]), prefix=1).values) == 1


def test_numbers_parse_or_are_named_bad():
    values, bad = numbers(pa.array([" 1.5", "+2", "", "x", "inf", "nan", "1_0", None]), [""])
    np.testing.assert_array_equal(values, [1.5, 2, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan])
    assert bad.tolist() == [False, False, False, True, True, False, True, False]


def test_bags_of_text_and_of_lists_agree():
    cut = bags(pa.array(["a|b", "", "a||a", None, "?"]), "|", ["?"])
    nested = bags(pa.array([["a", "b"], [], ["a", None, "a"], None, ["?"]]), "|", ["?"])
    assert lists(cut) == lists(nested) == [["a", "b"], [], ["a", "a"], [], []]


def test_bags_of_integer_lists():
    assert lists(bags(pa.array([[3, 4], [3]], pa.list_(pa.int32())), "|")) == [["3", "4"], ["3"]]


def test_times_sort_as_they_should():
    seconds, kind = times(pa.array(["2013-01-01T10:00:00Z", "2013-01-01T09:00:00Z"]))
    assert kind == "time"
    assert seconds[0] - seconds[1] == 3600e6
    assert times(pa.array(["10", "9"]))[0].tolist() == [10, 9]  # not as text, where "10" < "9"
    with pytest.raises(DataError, match="'monday'"):
        times(pa.array(["monday", "tuesday"]))


def test_log_square_buckets_of_the_criteo_challenge():
    found = texts(log_square_buckets(np.array([0, 1, 2, 3, 100, 1e4, -1, -2, -100, 0.5, np.nan])))
    # floor(log(100)^2) = 21, floor(log(10^4)^2) = 84
    assert found == ["0", "1", "2", "L1", "L21", "L84", "-1", "-2", "-L21", "0", None]


def test_quantile_buckets_hold_equal_shares():
    values = np.random.default_rng(0).exponential(size=10_000)
    edges = quantile_edges(values, 10)
    counts = np.bincount(quantile_buckets(values, edges).codes)
    assert counts.tolist() == [1000] * 10
    assert quantile_buckets(np.array([-5.0, 1e9, np.nan]), edges).codes.tolist() == [0, 9, -1]


def test_scale_standardises_and_takes_the_log_of_long_tails_only():
    rng = np.random.default_rng(0)
    normal = rng.normal(5, 3, 10_000)
    assert not fit_scale(normal).log
    tail = np.exp(rng.normal(0, 3, 10_000))
    assert fit_scale(tail).log
    for values in (normal, tail):
        scaled = fit_scale(values).apply(values)
        assert abs(scaled.mean()) < 1e-5
        assert abs(scaled.std() - 1) < 1e-5
    assert fit_scale(normal).apply(np.array([np.nan, 1e300])).tolist() == [0.0, 100.0]
    assert fit_scale(np.full(5, 3.0)).apply(np.array([3.0])).tolist() == [0.0]
