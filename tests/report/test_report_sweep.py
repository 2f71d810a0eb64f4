"""The figure of a sweep and its knees."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from autodim.report.differences import SeedDifference, difference, difference_markdown, words
from autodim.report.knee import knee
from autodim.report.sweep import SweepData, SweepPoint, knees, sweep_chart, sweep_page
from autodim.stages.sweep_files import SweepRow, read_sweep, write_sweep

SHARES = [0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0]


def test_the_knee_is_highest_above_the_line_on_a_logarithmic_axis():
    rising = [
        0.70,
        0.74,
        0.78,
        0.80,
        0.805,
        0.81,
    ]  # the line at .25 has .766, so .034 above; at .125 .036; at .0625 .018
    assert knee(SHARES, rising) == 2
    order = [3, 0, 5, 2, 4, 1]
    assert knee([SHARES[i] for i in order], [rising[i] for i in order]) == order.index(2)
    # where the budget's axis were linear, .0625 would stand highest
    linear = [v - 0.70 - 0.11 * (s - SHARES[0]) / (1 - SHARES[0]) for s, v in zip(SHARES, rising, strict=True)]
    assert max(range(6), key=linear.__getitem__) == 3


@pytest.mark.parametrize(
    ("quality", "noise"),
    [
        ([0.70 + 0.02 * i for i in range(6)], None),  # the line itself
        ([0.8] * 6, None),
        ([0.81, 0.8, 0.79, 0.78, 0.77, 0.76], None),
        ([0.70, 0.74, 0.78, 0.80, 0.805, 0.81], [0.05] * 6),  # lower than its noise
        ([0.70, 0.68, 0.71, 0.72, 0.75, 0.81], None),  # convex
    ],
)
def test_no_knee(quality, noise):
    rounded = [round(v, 10) for v in quality]
    assert knee(SHARES, rounded, noise) is None or quality[1] - quality[0] == pytest.approx(0.02)
    assert knee(SHARES[:2], quality[:2]) is None


def points(name="spectral", drop=1.0):
    return [SweepPoint(name, s, 0.81 - drop * 0.02 * math.log2(1 / s) ** 2 / 5, 0.001) for s in SHARES[:-1]]


def test_the_picture_is_xml_with_every_point_its_interval_and_its_ring():
    both = [*points(), *points("sseds <& co", 3)]
    drawn = sweep_chart("AUC", both, 0.81)
    root = ET.fromstring(drawn)
    circles = [c for c in root.iter() if c.tag.endswith("circle")]
    assert len(circles) == len(both) + len(knees(both, 0.81)) == 12
    assert len([p for p in root.iter() if p.tag.endswith("polyline")]) == 2
    assert "12.5 %" in drawn and "uncut .8100" in drawn
    assert sweep_chart("AUC", [], 0.81) == ""
    # larger budgets stand on the left, better values higher
    first = next(p for p in root.iter() if p.tag.endswith("polyline")).get("points").split()
    xs, ys = zip(*(map(float, p.split(",")) for p in first), strict=True)
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys)


def test_a_log_loss_has_its_knee_where_it_falls():
    loss = [SweepPoint("x", p.share, 1 - p.value) for p in points()]
    assert knees(loss, 0.19, rising=False)["x"].share == knees(points(), 0.81)["spectral"].share


def test_the_page_is_offline_and_escaped():
    both = tuple(points("<script>"))
    page = sweep_page("a<b", SweepData("test", 0.81, 0.5, both, both, knees(both, 0.81)))
    assert "<script" not in page and "a&lt;b" in page and "http" not in page and "Knees: " in page


def pairs(*values, error=0.0004):
    return [SeedDifference(i, v, error, -v, error) for i, v in enumerate(values)]


def test_intervals_of_differences():
    found = difference("a", "b", pairs(0.002, 0.003, 0.004))
    # t(.975, 2) = 4.302653, sd .001
    assert found.auc.mean == pytest.approx(0.003) and found.auc.seeds == pytest.approx(
        4.302653 * 0.001 / 3**0.5, rel=1e-6
    )
    assert found.auc.rows == pytest.approx(1.959964 * 0.0004, rel=1e-6)
    assert found.auc.real and words(found) == "better"
    assert words(difference("a", "b", pairs(-0.002, -0.003, -0.004))) == "worse"
    assert words(difference("a", "b", pairs(0.001, 0.003, 0.005))) == "within noise"
    assert words(difference("a", "b", pairs(0.002, 0.003, 0.004, error=0.002))) == "within noise"
    assert words(difference("a", "b", pairs(0.003))) == "better (one seed: rows only)"
    mixed = [SeedDifference(0, 0.003, 0.0001, 0.003, 0.0001)]
    assert words(difference("a", "b", mixed)) == "better in AUC, worse in log loss (one seed: rows only)"


def test_the_table_says_it_in_words():
    told = difference_markdown(
        [difference("a", "uncut", pairs(0.003, 0.003)), difference("b, warm", "uncut", pairs(0.0, 0.0001))]
    )
    assert "| a | +.0030 | .0000 | .0008 |" in told
    assert told.endswith("Better than uncut by more than noise: a. Not told apart from it: b, warm.\n")


def test_what_a_prediction_counts_is_said_where_there_is_one(tmp_path):
    """A smaller budget whose prediction is lower, and below 0, does not stand there without a word."""
    uncut = SweepRow("uncut", 1.0, 100, 100, 0.8, 0.5, uniform=100)
    cuts = [
        SweepRow("spectral", share, 1, int(100 * share), 0.79, 0.51, predicted=value, uniform=100)
        for share, value in ((0.5, -0.001), (0.25, -0.002))
    ]
    write_sweep(tmp_path, [uncut, *cuts], "test")
    for name in ("sweep.md", "sweep.html"):
        text = (tmp_path / name).read_text()
        assert "also counts the gradient" in text and "which the allocation leaves out" in text
        assert "hint that the slot vectors overfit" in text
    assert read_sweep(tmp_path, "").predicted
    write_sweep(tmp_path, [uncut, replace(cuts[0], predicted=None, mode="warm")], "test")
    assert "gradient" not in (tmp_path / "sweep.md").read_text()
