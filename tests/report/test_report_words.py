"""Figures, ticks and verdicts in words."""

from dataclasses import replace
from itertools import pairwise

import pytest

from autodim.report import numbers, svg
from autodim.report.axes import Scale, ticks
from autodim.report.data import BudgetRow, ReportData, ResultRow, SlotRow, Stability
from autodim.report.slots import slot_rows
from autodim.report.verdict import stability_words, verdict


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.ratio(0.81234), ".8123"),
        (numbers.ratio(-0.5), "-.5000"),
        (numbers.ratio(1.0), "1.0000"),
        (numbers.ratio(None), "–"),
        (numbers.ratio(float("nan")), "–"),
        (numbers.difference(-0.0089), "−.0089"),
        (numbers.difference(-0.0089, ascii=True), "-.0089"),
        (numbers.difference(0.00001), "±0"),
        (numbers.count(1234567), "1,234,567"),
        (numbers.short(999.9), "1k"),
        (numbers.short(28_613), "28.6k"),
        (numbers.short(999_960), "1M"),
        (numbers.size(950), "950 B"),
        (numbers.size(1536), "1.5 KiB"),
        (numbers.share(1, 8), "12.5 %"),
        (numbers.share(1, 10), "10 %"),
        (numbers.share(1, 100_000), "< 0.1 %"),
        (numbers.share(1, 0), "–"),
        (numbers.seconds(4.24), "4.2 s"),
        (numbers.seconds(59.97), "1 min 00 s"),
        (numbers.seconds(7500), "2 h 05 min"),
    ],
)
def test_figures(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.7, 0.8123), (-3, 4200), (1e-6, 2e-6), (5, 5)])
def test_ticks_are_inside_evenly_spaced_and_few(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    slack = (high - low) * 1e-6
    assert 1 <= len(found) <= 7
    assert all(low - slack <= t <= high + slack for t in found)
    steps = {round((b - a) / (high - low), 6) for a, b in pairwise(found)}
    assert len(steps) <= 1


def test_a_scale_of_one_value_does_not_divide_by_zero() -> None:
    assert Scale(3, 3, 0, 10)(3) == 5


def test_fit_keeps_short_texts_and_cuts_long_ones() -> None:
    assert svg.fit("user id", 200) == "user id"
    assert svg.fit("x" * 300, 100).endswith("…")
    assert len(svg.fit("漢" * 300, 100)) < len(svg.fit("x" * 300, 100))


def report(*results: ResultRow, slots: tuple[SlotRow, ...] = ()) -> ReportData:
    return ReportData("t", "now", BudgetRow("params", 100, 90, 800), slots, results)


UNCUT = ResultRow("uniform 16", "uncut", 0.8123)


def test_a_winning_baseline_is_never_silent() -> None:
    said = verdict(report(UNCUT, ResultRow("ours", "retrained", 0.80), ResultRow("uniform 2", auc=0.81)))
    assert any(s.startswith("A baseline is better: uniform 2, .8100") for s in said.sentences)


def test_a_lead_within_the_seeds_is_called_equal() -> None:
    ours = ResultRow("ours", "retrained", 0.8034, seeds=3, auc_sd=0.0007)
    rival = ResultRow("uniform 2", auc=0.8026, seeds=3, auc_sd=0.0006)
    assert "within the spread over seeds" in verdict(report(UNCUT, ours, rival)).sentences[0]
    clear = ResultRow("uniform 2", auc=0.7990, seeds=3, auc_sd=0.0006)
    assert verdict(report(UNCUT, ours, clear)).sentences[0].startswith("It beats every baseline")


def test_the_interval_over_seeds_is_student_s_at_its_own_freedom() -> None:
    """Five seeds a side have 8 degrees of freedom, whose 97.5 % point is 2.306."""
    ours = ResultRow("ours", "retrained", 0.80, seeds=5, auc_sd=0.001)
    error = (2 * 0.001**2 / 5) ** 0.5
    for times, start in ((2.29, "The best baseline is as good"), (2.32, "It beats every baseline")):
        rival = ResultRow("u", auc=0.80 - times * error, seeds=5, auc_sd=0.001)
        assert verdict(report(UNCUT, ours, rival)).sentences[0].startswith(start)


def test_one_seed_against_a_mean_of_several_is_no_win_by_its_own_luck() -> None:
    """With two seeds another one falls within 12.7 sd sqrt(1.5) of their mean, 19 times in 20."""
    ours = ResultRow("spectral", "retrained", 0.6225)
    rival = ResultRow("sseds", auc=0.6190, seeds=2, auc_sd=0.003)
    assert "within the spread over seeds" in verdict(report(UNCUT, ours, rival)).sentences[0]
    clear = ResultRow("sseds", auc=0.6190, seeds=2, auc_sd=0.0002)
    assert verdict(report(UNCUT, ours, clear)).sentences[0].startswith("It beats every baseline")


@pytest.mark.parametrize(
    ("gap", "start"),
    [
        (
            0.0035,
            "The best baseline is as good (sseds, .6190): the difference of +.0035 is inside its 95 % interval of ",
        ),
        (0.0045, "It beats every baseline; the best of them is sseds, .6190 (−.0045)."),
        (-0.0045, "A baseline is better: sseds"),
    ],
)
def test_the_paired_difference_decides_where_there_is_one(gap: float, start: str) -> None:
    ours = ResultRow("spectral", "retrained", 0.6225, seeds=2, auc_sd=0.00001)
    rival = ResultRow("sseds", auc=0.6190, seeds=2, auc_sd=0.00001, gap=gap, gap_half=0.004, gap_seeds=2)
    assert verdict(report(UNCUT, ours, rival)).sentences[0].startswith(start)


def test_every_baseline_is_beaten_only_where_each_is() -> None:
    ours = ResultRow("spectral", "retrained", 0.6225)
    best = ResultRow("sseds", auc=0.6190, gap=0.0035, gap_half=0.001, gap_seeds=3)
    wild = ResultRow("random", auc=0.6150, gap=0.0075, gap_half=0.01, gap_seeds=3)
    said = verdict(report(UNCUT, ours, best, wild)).sentences[0]
    assert said == "It beats the best baseline, sseds, .6190 (−.0035), and cannot be told from random."


def test_one_seed_each_wins_nothing() -> None:
    said = verdict(report(ResultRow("ours", "retrained", 0.8034), ResultRow("u", auc=0.79))).sentences[0]
    assert said.startswith("It is above every baseline") and "beats" not in said


def test_one_seed_says_so_when_it_is_close() -> None:
    said = verdict(report(ResultRow("ours", "retrained", 0.8034), ResultRow("u", auc=0.8031)))
    assert "one seed" in said.sentences[0]


@pytest.mark.parametrize(("auc", "tone"), [(0.8120, "good"), (0.8080, "even"), (0.7900, "poor")])
def test_tone_follows_the_loss(auc: float, tone: str) -> None:
    assert verdict(report(UNCUT, ResultRow("ours", "retrained", auc))).tone == tone


def test_empty_slots_are_named() -> None:
    slots = tuple(
        SlotRow(f"s{i}", 10, 16, 0 if i < 8 else 4, 0, state="dropped" if i < 8 else "projected") for i in range(9)
    )
    said = verdict(report(UNCUT, slots=slots))
    assert "8 of 9 slots get no dimension: s0, s1, s2, s3, s4, s5 and 2 more." in said.sentences


@pytest.mark.parametrize(
    ("rho", "moved", "word"),
    [(0.95, 0.2, "Stable"), (0.8, 1.0, "Fairly"), (0.95, 3.0, "Unstable"), (None, None, "Stability")],
)
def test_stability_in_words(rho: float | None, moved: float | None, word: str) -> None:
    assert stability_words(Stability(rho, moved))[0].startswith(word)


def test_stability_names_what_is_held_fixed_and_noise_is_never_good() -> None:
    said, tone = stability_words(Stability(0.99, 0.0))
    assert tone == "good" and "one trained model; what another training would give is not measured" in said
    for rho, moved in ((0.99, 0.0), (0.8, 1.0), (0.1, 4.0)):
        said, tone = stability_words(Stability(rho, moved), chance=True)
        assert tone == "poor" and "no better than chance" in said and "Stable" not in said


def test_a_model_of_noise_has_no_good_headline() -> None:
    data = report(ResultRow("uniform 16", "uncut", 0.5), ResultRow("ours", "retrained", 0.5))
    assert verdict(data).tone == "good"
    told = verdict(replace(data, chance="the uncut model predicts no better than chance"))
    assert told.tone == "poor" and told.sentences[0].startswith("The uncut model predicts no better than chance")


def test_slot_rows_of_an_allocation() -> None:
    from autodim.dimension.allocation import Allocation, Entry

    entries = (
        Entry("user", ("user",), 0, 100, 2, (0, 3), True, False, 232, 0.5, (0.3, 0.1, 0.0, 0.2)),
        Entry("page", ("from", "to"), 0, 40, 0, (), False, True, 8, 0.0, (0.1, 0.1, 0.1, 0.1)),
        Entry("item", ("item",), 0, 10, 4, None, False, False, 40),
        Entry("item", ("item",), 10, 50, 1, None, True, False, 44),
    )
    rows = slot_rows(Allocation("sseds", "params", 400, 324, 760, 4, entries))
    assert [r.name for r in rows] == ["user", "page (from, to)", "item [0:10)", "item [10:50)"]
    assert [r.state for r in rows] == ["projected", "mean", "whole", "projected"]
    assert sum(r.before for r in rows) == pytest.approx(760)
    assert rows[0].share == pytest.approx(0.6)
    native = slot_rows(Allocation("uniform", "params", 400, 320, 640, 2, (Entry("a", ("a",), 0, 160, 2),)), 4)
    assert native[0].state == "native"
