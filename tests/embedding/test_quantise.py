"""Row-wise rounding: how far a number moves, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autodim.embedding.precision import row_bytes
from autodim.embedding.quantise import decode, encode, rounded
from autodim.errors import TrainingError

NUMBERS = st.floats(-60_000, 60_000, width=32)
SMALL = st.floats(-0.125, 0.125, width=32)
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 9))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([NUMBERS, SMALL]).flatmap(lambda n: arrays(np.float32, SHAPES, elements=n)))
def test_no_number_moves_by_more_than_half_its_rows_scale(table):
    codes, scales, offsets = encode(table)
    assert codes.dtype == np.uint8 and scales.dtype == offsets.dtype == np.float16
    error = np.abs(decode(codes, scales, offsets).astype(np.float64) - table)
    digits = np.abs(table).max(1) * 2.0**-22
    assert (error <= scales.astype(np.float64)[:, None] / 2 * (1 + 1e-9) + digits[:, None]).all()
    # and the scale is the row's range over 255 steps, up to the float16 of scale and offset
    low, high = table.min(1).astype(np.float64), table.max(1).astype(np.float64)
    widest = (high - low + np.abs(low) * 2.0**-10 + 6e-8) / 255 * (1 + 2.0**-10) + 6e-8
    assert (scales <= widest).all()


def test_a_case_by_hand():
    table = np.array([[0.0, 255.0, 1.4, 1.6], [0.5, 0.5, 0.5, 0.5]], dtype=np.float32)
    codes, scales, offsets = encode(table)
    assert codes.tolist() == [[0, 255, 1, 2], [0, 0, 0, 0]]
    assert scales.tolist() == [1.0, 0.0] and offsets.tolist() == [0.0, 0.5]
    assert rounded(table, "int8").tolist() == [[0, 255, 1, 2], [0.5] * 4]
    assert rounded(table, "fp16")[0, 2] == np.float16(1.4) and rounded(table, "fp32") is table


def test_rows_are_rounded_each_by_itself_in_pieces_too(monkeypatch):
    from autodim.embedding import quantise

    table = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32) * np.arange(50)[:, None].astype(np.float32)
    whole = rounded(table, "int8")
    monkeypatch.setattr(quantise, "_CHUNK", 7)
    assert np.array_equal(rounded(table, "int8"), whole)
    assert np.array_equal(rounded(table[20:30], "int8"), whole[20:30])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1e6])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_what_float16_cannot_hold_is_refused(bad, precision):
    with pytest.raises(TrainingError, match="serve in fp32"):
        rounded(np.array([[0.0, bad]], dtype=np.float32), precision)


def test_a_row_costs_its_tensors():
    table = np.ones((7, 5), dtype=np.float32)
    assert sum(part.nbytes for part in encode(table)) == 7 * row_bytes(5, "int8") == 7 * 9
    assert table.astype(np.float16).nbytes == 7 * row_bytes(5, "fp16")
    assert [row_bytes(0, p) for p in ("fp32", "fp16", "int8")] == [0, 0, 0]
