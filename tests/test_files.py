"""JSON that autodim writes holds no number that JSON lacks."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from autodim.files import finite, read_json, write_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_what_is_finite_is_kept_and_the_rest_is_null(value):
    again = json.loads(json.dumps(finite(value), allow_nan=False))
    bare = json.loads(json.dumps(value), parse_constant=lambda name: None)  # NaN, Infinity, -Infinity
    assert again == bare


def test_a_file_with_an_undefined_metric_reads_back(tmp_path):
    write_json(tmp_path / "x.json", {"auc": math.nan, "calibration": math.inf, "rows": (1, 2.5)})
    assert read_json(tmp_path / "x.json") == {"auc": None, "calibration": None, "rows": [1, 2.5]}
