"""The run in plain words: the sentences that open a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autodim.report import numbers
from autodim.report.data import UNIT_WORDS, ReportData, ResultRow, Stability
from autodim.training.student import quantile

Tone = Literal["good", "even", "poor", "plain"]
_SAME = 5e-4  # AUC differences below this are called equal where nothing is known of their noise


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
            sentences += _beside_uncut(product, uncut)
        if data.chance:
            tone = "poor"
            sentences.append("The uncut model predicts no better than chance, so that these widths mean nothing.")
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


def _beside_uncut(product: ResultRow, uncut: ResultRow) -> list[str]:
    """What else is known of the difference to the uncut model: its interval over the test rows, and the log loss."""
    found = []
    if uncut.gap is not None and uncut.gap_half is not None:
        told = "inside" if abs(uncut.gap) <= uncut.gap_half else "outside"
        found.append(f"the difference in AUC is {told} its 95 % interval of ±{numbers.ratio(uncut.gap_half)}")
    if numbers.known(product.logloss) and numbers.known(uncut.logloss):
        found.append(f"log loss is {numbers.ratio(product.logloss)} against {numbers.ratio(uncut.logloss)}")
    said = "; ".join(found)
    return [f"On the test rows {said}."] if found else []


def _against_baselines(product: ResultRow, results: tuple[ResultRow, ...]) -> list[str]:
    rivals = [r for r in results if r.role == "baseline" and r.auc is not None and numbers.known(r.auc)]
    if not rivals or product.auc is None:
        return []
    best = max(rivals, key=lambda r: r.auc or 0.0)
    lead, noise, how = _lead(product, best)
    figures = f"{best.name}, {numbers.ratio(best.auc)}"
    if abs(lead) <= (_SAME if noise is None else noise):
        return [f"The best baseline is as good ({figures}): the difference of {numbers.difference(lead)} is {how}."]
    if lead < 0:
        return [f"A baseline is better: {figures} ({numbers.difference(-lead)} above this model)."]
    if noise is None:
        return [
            f"It is above every baseline; the best of them is {figures} ({numbers.difference(-lead)}). With one seed "
            "each nothing is known of the noise."
        ]
    close = [r.name for r in rivals if (found := _lead(product, r))[0] <= (_SAME if found[1] is None else found[1])]
    if close:
        return [
            f"It beats the best baseline, {figures} ({numbers.difference(-lead)}), and cannot be told from "
            f"{', '.join(close)}."
        ]
    return [f"It beats every baseline; the best of them is {figures} ({numbers.difference(-lead)})."]


def _lead(product: ResultRow, rival: ResultRow) -> tuple[float, float | None, str]:
    """By how much the product's AUC is above a rival's, half of that difference's 95 % interval (None: nothing is known
    of it), and where a difference inside of it lies, in words.

    Paired where the rival's row says so. Else by the spread over seeds: that of two means; or, of one seed against the
    mean of several, the interval in which another seed would fall.
    """
    if rival.gap is not None and rival.gap_half is not None:
        seeds = "one seed" if rival.gap_seeds == 1 else f"{rival.gap_seeds} seeds"
        return rival.gap, rival.gap_half, f"inside its 95 % interval of ±{numbers.ratio(rival.gap_half)}, from {seeds}"
    lead = (product.auc or 0.0) - (rival.auc or 0.0)
    known = [(r.auc_sd, r.seeds) for r in (product, rival) if r.auc_sd is not None and r.seeds > 1]
    words = "within the spread over seeds"
    if len(known) == 2:
        error = sum(sd**2 / n for sd, n in known) ** 0.5
        return lead, quantile(0.975, sum(n - 1 for _, n in known)) * error, words
    if len(known) == 1:
        ((sd, n),) = known
        return lead, quantile(0.975, n - 1) * sd * (1 + 1 / n) ** 0.5, words
    return lead, None, "too close to tell from one seed"


def stability_words(stability: Stability, chance: bool = False) -> tuple[str, Tone]:
    """Whether another sample of scoring rows would have given the same widths of this trained model, in a sentence.

    Args:
        chance: the model predicts no better than chance: then agreement is of noise with itself, and nothing is good.
    """
    rho, moved = stability.spearman, stability.mean_dim_diff
    parts = []
    if rho is not None and numbers.known(rho):
        parts.append(f"rank correlation of the scores {numbers.ratio(rho, 2)}")
    if moved is not None and numbers.known(moved):
        parts.append(f"widths differ by {moved:.2f} dimensions a slot on average")
    if not parts:
        return "Stability was not measured.", "plain"
    measured = "two disjoint halves of the scoring rows: " + ", ".join(parts)
    fixed = "Both halves score one trained model; what another training would give is not measured."
    if chance:
        said = "Says nothing here. The model predicts no better than chance, and both halves score that same model"
        return f"{said} ({measured}).", "poor"
    # the widths are the product: where they agree, a noisy ranking of scores that were never near the cut is no matter
    good = moved <= 0.25 if moved is not None else rho is not None and rho >= 0.9
    fair = moved <= 1.5 if moved is not None else rho is not None and rho >= 0.7
    if good:
        return f"Stable over the scored rows. Either half of them gives the same widths ({measured}). {fixed}", "good"
    if fair:
        return f"Fairly stable over the scored rows. Most slots would keep their widths ({measured}). {fixed}", "even"
    return f"Unstable. Other rows would have given other widths; score on more rows ({measured}). {fixed}", "poor"


def _unit(unit: str) -> str:
    words = {"params": "parameters", "bytes": "(with optimizer state)", "serving_bytes": "(in serving)"}
    return words.get(unit, "dimensions")
