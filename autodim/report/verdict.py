"""The run in plain words: the sentences that open a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autodim.report import numbers
from autodim.report.data import UNIT_WORDS, ReportData, ResultRow, Stability

Tone = Literal["good", "even", "poor", "plain"]
_SAME = 5e-4  # AUC differences below this are called equal when there are no seeds to judge by

# Two-sided 95 % quantiles of Student's t by degrees of freedom (upper end of each range); few seeds need wide ones.
_STUDENT = ((2, 4.30), (3, 3.18), (4, 2.78), (6, 2.45), (10, 2.23), (20, 2.09))


@dataclass(frozen=True)
class Verdict:
    """`headline`: one line for the boss; `sentences`: what qualifies it; `tone`: its colour."""

    headline: str
    sentences: tuple[str, ...]
    tone: Tone


def verdict(data: ReportData) -> Verdict:
    """What was spent, what it cost in quality, and whether a baseline does better. Never silent about the last."""
    budget, product, uncut = data.budget, data.product, data.result("uncut")
    words = UNIT_WORDS[budget.unit]
    headline = (
        f"{numbers.share(budget.spent, budget.uniform)} of the {words}" if budget.uniform else "No embeddings to cut"
    )
    tone: Tone = "plain"
    sentences = []
    if product is not None and product.auc is not None and numbers.known(product.auc):
        headline += f", test AUC {numbers.ratio(product.auc)}"
        if uncut is not None and uncut.auc is not None and numbers.known(uncut.auc):
            change = product.auc - uncut.auc
            headline += f" against {numbers.ratio(uncut.auc)} uncut ({numbers.difference(change)})"
            tone = "good" if change > -0.001 else "even" if change > -0.01 else "poor"
        if product.role == "cut":
            sentences.append("This is the cut model without any retraining.")
        sentences += _against_baselines(product, data.results)
    elif product is None:
        sentences.append("The cut model has not been evaluated yet.")
    sentences.append(
        f"Asked for {budget.quality}: the smallest found that keeps it spends "
        f"{numbers.amount(budget.spent, budget.unit)} {_unit(budget.unit)}."
        if budget.quality
        else f"Asked for at most {numbers.amount(budget.asked, budget.unit)} {_unit(budget.unit)}, "
        f"spent {numbers.amount(budget.spent, budget.unit)}."
    )
    empty = [s.name for s in data.slots if s.width == 0]
    if empty:
        named = ", ".join(empty[:6]) + (f" and {len(empty) - 6} more" if len(empty) > 6 else "")
        verb = "gets" if len(empty) == 1 else "get"
        sentences.append(f"{len(empty)} of {len(data.slots)} slots {verb} no dimension: {named}.")
    return Verdict(headline, tuple(sentences), tone)


def _against_baselines(product: ResultRow, results: tuple[ResultRow, ...]) -> list[str]:
    rivals = [r for r in results if r.role == "baseline" and r.auc is not None and numbers.known(r.auc)]
    if not rivals or product.auc is None:
        return []
    best = max(rivals, key=lambda r: r.auc or 0.0)
    lead = product.auc - (best.auc or 0.0)
    noise = _noise(product, best)
    figures = f"{best.name}, {numbers.ratio(best.auc)}"
    if abs(lead) <= (noise if noise is not None else _SAME):
        how = "within the spread over seeds" if noise is not None else "too close to tell from one seed"
        return [f"The best baseline is as good ({figures}): the difference of {numbers.difference(lead)} is {how}."]
    if lead < 0:
        return [f"A baseline is better: {figures} ({numbers.difference(-lead)} above this model)."]
    return [f"It beats every baseline; the best of them is {figures} ({numbers.difference(-lead)})."]


def _noise(a: ResultRow, b: ResultRow) -> float | None:
    """Half the 95 % interval of the difference of two means over seeds (unpaired); None without seeds on both sides."""
    if a.seeds < 2 or b.seeds < 2 or a.auc_sd is None or b.auc_sd is None:
        return None
    freedom = a.seeds + b.seeds - 2
    quantile = next((t for most, t in _STUDENT if freedom <= most), 2.0)
    return quantile * (a.auc_sd**2 / a.seeds + b.auc_sd**2 / b.seeds) ** 0.5


def stability_words(stability: Stability) -> tuple[str, Tone]:
    """Whether another sample of scoring rows would have given the same widths, in a sentence."""
    rho, moved = stability.spearman, stability.mean_dim_diff
    parts = []
    if rho is not None and numbers.known(rho):
        parts.append(f"rank correlation of the scores {numbers.ratio(rho, 2)}")
    if moved is not None and numbers.known(moved):
        parts.append(f"widths differ by {moved:.2f} dimensions a slot on average")
    if not parts:
        return "Stability was not measured.", "plain"
    measured = "two disjoint halves of the scoring rows: " + ", ".join(parts)
    # the widths are the product: where they agree, a noisy ranking of scores that were never near the cut is no matter
    good = moved <= 0.25 if moved is not None else rho is not None and rho >= 0.9
    fair = moved <= 1.5 if moved is not None else rho is not None and rho >= 0.7
    if good:
        return f"Stable. Either half of the data tells the same story ({measured}).", "good"
    if fair:
        return f"Fairly stable. Most slots would keep their widths ({measured}).", "even"
    return f"Unstable. Other rows would have given other widths; score on more rows ({measured}).", "poor"


def _unit(unit: str) -> str:
    words = {"params": "parameters", "bytes": "(with optimizer state)", "serving_bytes": "(in serving)"}
    return words.get(unit, "dimensions")
