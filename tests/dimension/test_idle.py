"""A model whose vectors carry nothing is named; one whose vectors are of use is not."""

import numpy as np
import pytest

from autodim.dimension.idle import idle_notes, whole_worth
from autodim.dimension.moments import Moments


def moments(spread, curvature, width=3):
    zero = np.zeros(width)
    return Moments(10, zero, zero, spread * np.eye(width), np.zeros((width, width)), curvature * np.eye(width))


def test_the_worth_is_what_replacing_every_vector_by_its_mean_is_predicted_to_cost():
    rng = np.random.default_rng(0)
    root, other = rng.normal(size=(2, 4, 4))
    m = Moments(5, rng.normal(size=4), np.zeros(4), root @ root.T, np.zeros((4, 4)), other @ other.T)
    assert whole_worth({"a": m, "b": m}) == pytest.approx(2 * m.change(np.zeros((4, 4)), m.mean))


def test_only_vectors_that_carry_nothing_are_named():
    assert idle_notes({"a": moments(1.0, 1e-6), "b": moments(1e-9, 1.0)})
    assert not idle_notes({"a": moments(1.0, 1e-6), "b": moments(0.5, 0.1)})
    assert not idle_notes({})
