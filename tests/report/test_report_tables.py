"""Terminal tables and comparisons over seeds."""

import csv
import io

import pytest
from rich.console import Console

from autodim.errors import ConfigError
from autodim.report.compare import SeedResult, compare, comparison_csv, comparison_markdown, spread
from autodim.report.data import BudgetRow, ReportData, ResultRow, SlotRow
from autodim.report.labels import LabelRow, label_table
from autodim.report.terminal import budget_line, comparison_table, labels_table, results_table, widths_table
from autodim.stages.tables import task_table


def shown(table: object) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


SEEDS = [
    SeedResult("uniform 16", 0, 0.810, 0.52, 1000, 12000, 60),
    SeedResult("uniform 16", 1, 0.820, 0.51, 1000, 12000, 62),
    SeedResult("sseds", 0, 0.809, 0.53, 125, 1500, 30),
    SeedResult("sseds", 1, 0.818, 0.52, 125, 1500, 32),
    SeedResult("sseds", 2, 0.700, 0.60, 125, 1500, 31),
]


def test_sample_standard_deviation() -> None:
    """Pinned: 1, 2, 4 have mean 7/3 and sd sqrt(7/3)."""
    found = spread([1.0, 2.0, None, 4.0, float("nan")])
    assert found.mean == pytest.approx(7 / 3)
    assert found.sd == pytest.approx((7 / 3) ** 0.5)
    assert found.n == 3
    assert spread([1.0]).sd is None
    assert spread([None]).mean is None


def test_differences_are_paired_by_seed() -> None:
    """Seeds 0 and 1 differ by -.001 and -.002; seed 2, which the reference lacks, does not enter."""
    reference, ours = compare(SEEDS)
    assert ours.auc_difference.mean == pytest.approx(-0.0015)
    assert ours.auc_difference.sd == pytest.approx(0.0005 * 2**0.5)
    assert ours.auc_difference.n == 2
    assert ours.auc.n == 3
    assert reference.auc_difference.mean is None


def test_comparison_with_an_unknown_reference_suggests_one() -> None:
    with pytest.raises(ConfigError, match='did you mean "sseds"'):
        compare(SEEDS, "ssed")


def test_markdown_has_mean_spread_difference_and_survives_pipes() -> None:
    text = comparison_markdown(compare([*SEEDS, SeedResult("a|b\n<i>", 0, 0.5)]))
    lines = text.splitlines()
    assert len(lines) == 2 + 3
    assert "**.8150 ± .0071**" in lines[2]
    assert "−.0015 ± .0007" in lines[3]
    assert lines[4].startswith("| a\\|b &lt;i> |")
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_csv_keeps_full_precision_and_defuses_formulas() -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(compare([SeedResult("=cmd", 7, 1 / 3)])))))
    assert rows[0]["model"] == "'=cmd"
    assert rows[0]["seeds"] == "7"
    assert float(rows[0]["auc_mean"]) == 1 / 3
    assert rows[0]["logloss_mean"] == rows[0]["auc_sd"] == ""


def test_no_runs_no_rows() -> None:
    assert compare([]) == ()
    assert len(comparison_markdown(()).splitlines()) == 2
    assert shown(comparison_table(()))


def test_terminal_tables_say_the_numbers() -> None:
    slots = (SlotRow("user", 6041, 16, 2, 12114), SlotRow("zip", 3440, 16, 0, 0, state="dropped"))
    text = shown(widths_table(slots))
    assert "6,041" in text
    assert "2 of 16" in text
    assert "12,114" in text
    assert "██··············" in text
    results = (
        ResultRow("before", "uncut", 0.8123, 0.52),
        ResultRow("retrained", "retrained", 0.8034, 0.53, seeds=3, auc_sd=0.001),
    )
    text = shown(results_table(results))
    assert ".8034 ± .0010 ★" in text
    assert "−.0089" in text
    assert ".8150 ± .0071" in shown(comparison_table(compare(SEEDS)))
    line = budget_line(ReportData("t", "n", BudgetRow("params", 26400, 23283, 211008)))
    assert line == "23,283 of 211,008 params (11 %), asked at most 26,400"


def test_no_name_speaks_to_the_terminal() -> None:
    """Rich markup stays text and control characters are gone."""
    name = "[red]x[/red]\x1b[2J\x07\u202e"
    for table in (
        widths_table((SlotRow(name, 10, 16, 4, 40),)),
        results_table((ResultRow(name, auc=0.5),)),
        comparison_table(compare([SeedResult(name, 0, 0.5)])),
    ):
        text = shown(table)
        assert "[red]x[/red]" in text
        assert "\x07" not in text
        assert "\u202e" not in text
        assert "\x1b[2J" not in text


def test_long_lists_name_what_they_leave_out() -> None:
    slots = tuple(SlotRow(f"s{i}", i + 1, 16, 4, 4) for i in range(50))
    text = shown(widths_table(slots, limit=10))
    assert "and 40 smaller slots" in text
    assert "s49" in text
    assert "s0 " not in text


def test_each_way_of_retraining_has_a_line_of_its_own_in_the_table_of_labels() -> None:
    def row(mode: str, auc: float) -> dict[str, object]:
        return {"strategy": "spectral", "mode": mode, "share": 0.1, "tasks": {"click": {"auc": auc}}}

    text = task_table([row("none", 0.7), row("none", 0.72), row("warm", 0.8), row("warm", 0.82)])
    assert "| spectral, none | 0.1 | .7100 ± .0141 |" in text and "| spectral, warm | 0.1 | .8100 ± .0141 |" in text


def test_several_labels_have_a_line_each() -> None:
    """Differences and the best are within a label; a regression has figures of its own."""
    uncut = ResultRow("before", "uncut", params=2000)
    models = uncut, ResultRow("cut", "cut", params=500), ResultRow("retrained", "retrained", params=500)
    clicks, prices = ((0.9, 0.2), (0.7, 0.5), (0.8, 0.3)), ((2.0, 0.9), (3.0, 0.5), (2.5, 0.7))
    rows = []
    for model, (auc, loss), (rmse, r2) in zip(models, clicks, prices, strict=True):
        rows.append(LabelRow(model, "click", auc=auc, logloss=loss, calibration=1.0))
        rows.append(LabelRow(model, "price", rmse=rmse, r2=r2))
    heads, body = label_table(rows)
    assert heads == [
        "model", "label", "AUC", "to uncut", "logloss", "to uncut", "RMSE", "to uncut", "calibration", "R2",
        "parameters", "memory", "training",
    ]  # fmt: skip
    dash = "–"
    assert body[0][:4] == ["before", "click", ".9000", dash] and body[1][:3] == ["", "price", dash]
    assert body[4][:6] == ["retrained", "click", ".8000 ★", "−.1000", ".3000 ★", "+.1000"]
    assert body[3][6:10] == ["3.0000", "+1.0000", dash, ".5000"] and body[5][6] == "2.5000 ★"
    assert [line[10] for line in body] == ["2,000", "", "500", "", "500", ""]
    assert "price" in shown(labels_table(rows))
