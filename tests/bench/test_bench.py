"""Laws of the bench: its limits, its log, its widths; and that it runs, skips and reports."""

import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from autodim.bench import synthetic
from autodim.bench.peers.protocol import status
from autodim.bench.table import number, weighting_costs
from autodim.bench.variants import Variant, layout_of, widths_of
from autodim.bench.work import Rates, work
from autodim.cli import app
from autodim.embedding.layout import Slot, Table

HIDDEN = (400, 400, 400)
TWO_CORES = Rates(copy=50e9, fp32=190e9, bf16=400e9)
SLOTS = tuple(Slot(f"C{k}", f"C{k}") for k in range(39))
TABLES = tuple(Table(f"C{k}", r) for k, r in enumerate(synthetic.sizes()))


@pytest.mark.parametrize(
    ("model", "width", "expected"), [("deepfm", 16, 56e3), ("deepfm", 64, 24e3), ("fm", 16, 6.6e6), ("fm", 64, 1.7e6)]
)
def test_limits_of_the_two_core_machine(model, width, expected):
    limit = work(model, [width] * 39, width, 0, HIDDEN).limit(TWO_CORES, train=True, bf16=False)
    assert limit == pytest.approx(expected, rel=0.02)


def test_work_is_counted_by_hand():
    # first layer (2 + 4 + n=1) x 3, then 3 x 1; one projected slot of width 2 to D = 4
    least = work("deepfm", [2, 4], 4, 1, (3,))
    assert least.multiplications == 7 * 3 + 3 + 2 * 4
    assert least.flops(train=True) == 3 * least.flops(train=False) == 6 * least.multiplications
    assert least.bytes(train=True) == 12 * 6
    # x_0 of 2 * 4 + 1 numbers: W_0 folded, W_1 full, the output
    assert work("dcnv2", [4, 4], 4, 1, (3,), cross=2).multiplications == 9 * 3 + 3 + 9 * 9 + 9 * 9 + 9


def test_log_is_criteo_shaped():
    assert len(synthetic.sizes()) == 39
    assert 1.0e6 < sum(synthetic.sizes()) < 1.2e6
    ids, labels = synthetic.criteo_shaped(2000)
    assert ids.dtype == np.int32 and ids.shape == (2000, 39) and set(np.unique(labels)) == {0, 1}
    assert (ids >= 1).all() and (ids.max(0) < np.maximum(synthetic.sizes(), 2)).all()
    # Zipf: the commonest id of the largest slot is common, most ids never occur
    largest = ids[:, int(np.argmax(synthetic.sizes()))]
    assert (largest == 1).mean() > 0.03 and len(np.unique(largest)) > 300
    np.testing.assert_array_equal(ids, synthetic.criteo_shaped(2000)[0])


@pytest.mark.parametrize("unit", ["params", "dims"])
def test_pruned_widths_keep_to_the_share(unit):
    layout = layout_of(Variant("autodim", "fm", 16, 8, share=0.125, unit=unit), SLOTS, TABLES)
    uniform = layout_of(Variant("autodim", "fm", 16, 8), SLOTS, TABLES)
    widths = widths_of(layout)
    assert min(widths) >= 1 and len(set(widths)) > 1
    spent, whole = (sum(widths), 39 * 16) if unit == "dims" else (layout.parameters, uniform.parameters)
    assert 0.9 * 0.125 < spent / whole <= 0.125


def test_numbers_read_well():
    assert [number(v) for v in (0.5, 17_234, 172_340, 6_600_000)] == ["0.5", "17.2 k", "172 k", "6.6 M"]


def test_resident_memory_is_read():
    assert status("VmHWM") >= status("VmRSS") > 1 << 20


def bench(*arguments: str):
    return CliRunner().invoke(
        app, ["bench", "--rows", "600", "--repeats", "2", "--seconds", "0.01", "--threads", "1", *arguments]
    )


def test_bench_measures_uniform_and_pruned_and_leaves_out_what_is_not_there():
    # this very python stands in for an environment without the peer
    found = bench(
        "--models", "fm", "--widths", "4", "--batches", "64", "--shares", "1,0.5", "--bf16", "--json",
        "--peers", sys.executable, "--against", "fuxictr",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    *ours, peer = result["rows"]
    assert len(ours) == 4 and "fuxictr" in peer["skip"]
    for row in ours:
        assert len(row["train"]["repeats"]) == len(row["infer"]["repeats"]) == 2
        assert row["train"]["samples_per_second"] > 0 and row["train"]["share"] > 0
        assert set(row["parts"]) == {"data", "lookup", "dense", "rows", "update"}
        assert all(v > 0 for v in row["parts"].values())
        assert row["memory"]["peak"] > row["memory"]["before"] > 0
    assert ours[0]["facts"]["parameters"] > ours[2]["facts"]["parameters"]
    assert ours[0]["facts"]["unique"] <= 64 * 39


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--models", "deepfn"), "deepfm"),
        (("--widths", "0"), "--widths"),
        (("--shares", "2"), "--shares"),
        (("--batches", "x"), "--batches"),
        (("--peers", "python", "--against", "torchreck"), "torchrec"),
        (("--models", "mmoe"), "--tasks 2"),
        (("--models", "esmm", "--tasks", "3"), "esmm with 3 tasks"),
        (("--models", "mmoe", "--weightings", "pcgrad"), "--tasks 2"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(arguments, named):
    found = bench(*arguments)
    assert found.exit_code != 0
    assert named in str(found.exception)


def test_models_of_several_tasks_are_measured_beside_uniform():
    found = bench(
        "--models", "mmoe", "--widths", "4", "--batches", "64", "--tasks", "2", "--weightings", "uniform,pcgrad,mgda/2",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    lines = [line for line in found.stdout.splitlines() if "uniform's time" in line]
    assert [line.partition(":")[0] for line in lines] == ["mmoe 4, 2 tasks pcgrad", "mmoe 4, 2 tasks mgda/2"]
    assert "limit of training" not in found.stdout  # no least work is known of it


def test_a_weightings_cost_is_the_median_of_the_rounds_ratios():
    def row(weighting: str, repeats: list[float], **more):
        variant = Variant("autodim", "dnn", 16, 64, tasks=2, weighting=weighting, **more)
        return {"variant": variant.to_json(), "name": variant.name, "train": {"repeats": repeats}}

    rows = [row("uniform", [100, 40, 90]), row("pcgrad", [50, 20, 30]), row("mgda", [10, 10, 10], bf16=True)]
    expected = "dnn 16, 2 tasks pcgrad: 2.00 times uniform's time a step (2.00 to 3.00 by round)"
    assert weighting_costs(rows) == [expected]  # mgda has no uniform that is otherwise like it
