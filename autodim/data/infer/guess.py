"""Facts into slots, columns that are left out, and a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autodim.data.infer import leaks
from autodim.data.infer.numbers import BINS, Entry, number_slot
from autodim.data.infer.profile import Profile
from autodim.data.infer.target import Target
from autodim.data.infer.words import STRONG_ID, says_id, says_outcome, scalar, usable, words_of

UNIQUE = 0.95  # share of rows with a value of their own that makes an identifier
OVERLAP, SURE = 0.5, 0.8  # of the smaller vocabulary
LEAST_IDS = 20
PARTS = {"train": ("train", "training"), "valid": ("valid", "validation", "val", "dev"), "test": ("test", "testing")}


@dataclass(frozen=True)
class Guess:
    """What becomes of one column.

    Attributes:
        column: its name.
        role: slot, out (left out), time, or split.
        entry: the slot as the config says it (of a column left out: as it could).
        why: in words.
        warn: deserves a look.
    """

    column: str
    role: str
    entry: Entry
    why: str
    warn: bool = False


def guess_all(profiles: Sequence[Profile], targets: Sequence[Target]) -> list[Guess]:
    """One guess a column but the labels', in the log's order; a column that knows any of the labels is left out."""
    columns = {target.column for target in targets}
    rest = [fact for fact in profiles if fact.name not in columns]
    found = guess(rest, targets[0])
    for target in targets[1:]:
        for i, other in enumerate(guess(rest, target)):
            if other.role == "out" and found[i].role == "slot":
                found[i] = other
    return found


def guess(profiles: Sequence[Profile], target: Target) -> list[Guess]:
    """One guess a column but the label's, in the log's order."""
    found = [_one(fact, target) for fact in profiles if fact.name != target.column]
    if not any(g.role == "slot" and g.entry.get("kind") != "value" for g in found):
        # The search divides dimensions among tables, so numbers become ids here.
        found = [
            replace(
                g,
                entry={"name": g.column, "kind": "buckets", "buckets": "quantile", "bins": BINS},
                why=f"{g.why}; as quantiles, because the log has no ids and only tables have widths",
            )
            if g.role == "slot"
            else g
            for g in found
        ]
    return _shared(found, {fact.name: fact for fact in profiles})


def _one(fact: Profile, target: Target) -> Guess:
    name = fact.name
    entry: Entry = {"name": name}
    gaps = f", {fact.missing / fact.rows:.0%} missing" if fact.missing > 0.005 * fact.rows else ""
    if not usable(name):
        said = "an index?" if not name else "a config can name 1 to 200 printable characters"
        return Guess(name, "out", entry, f"its name is {'empty' if not name else 'odd'}: {said}")
    if fact.kind == "other":
        return Guess(name, "out", entry, f"type {fact.stored}: {fact.doubt or 'autodim does not read it'}")
    if fact.kind == "list":
        if not fact.items:
            return Guess(name, "out", entry, "every list is empty")
        return Guess(name, "slot", {**entry, "kind": "multi"}, f"lists of {len(fact.items):,} distinct ids{gaps}")
    if fact.distinct <= 1 and not (fact.distinct and fact.missing):
        return Guess(name, "out", entry, "one value only: it tells nothing" if fact.distinct else "always missing")
    if _is_split(fact):
        return Guess(name, "split", entry, f"its values name parts: {', '.join(sorted(fact.texts()))}")
    if says_outcome(name) and fact.distinct <= 100:
        return Guess(name, "out", entry, "named like an outcome: known only after the event?", True)
    unique = fact.distinct >= UNIQUE * fact.present and fact.present >= 50
    ready, why = _slot(fact)
    ready = {**entry, **ready}
    if fact.time:
        order = ", in the log's order" if fact.rising else ""
        return Guess(name, "time", entry, f"a time ({fact.time}{order}): new rows have times that no row had")
    if unique and ((fact.kind == "text" and not fact.separator) or _counter(fact)):
        return Guess(name, "out", ready, f"{fact.distinct:,} distinct in {fact.present:,} rows: names the row, no help")
    power = leaks.alone(fact, target.values)
    if power >= leaks.LEAK:
        told = f"leak suspect: alone it predicts {target.column!r} with AUC {power:.4f}"
        return Guess(name, "out", ready, told.replace(repr(target.column), scalar(target.column)), True)
    if power >= leaks.DOUBT:
        return Guess(name, "slot", ready, f"{why}{gaps}; alone AUC {power:.3f}: known before the event?", True)
    return Guess(name, "slot", ready, why + gaps)


def _slot(fact: Profile) -> tuple[Entry, str]:
    """(keys beside the name, why) of a column with values."""
    if fact.separator:
        kind: Entry = {"kind": "multi", "separator": fact.separator}
        return kind, f"{fact.distinct:,} texts are made of {len(fact.items):,} ids cut at {scalar(fact.separator)}"
    if fact.kind in ("integer", "float"):
        return number_slot(fact)
    return {}, f"{fact.distinct:,} distinct {'values' if fact.kind == 'bool' else 'texts'}" + (
        f"; {fact.doubt}" if fact.doubt else ""
    )


def _counter(fact: Profile) -> bool:
    """Whether whole numbers that never repeat name rows: by name, or by counting up."""
    if fact.kind != "integer" or fact.numbers is None:
        return False
    steps = np.diff(fact.numbers[~np.isnan(fact.numbers)])
    return bool(set(words_of(fact.name)) & STRONG_ID) or bool(len(steps) and np.mean(steps == 1) > 0.9)


def _is_split(fact: Profile) -> bool:
    if fact.kind != "text" or not 2 <= fact.distinct <= 3:
        return False
    meant = part_values(fact)
    return sum(map(len, meant.values())) == fact.distinct and bool(meant["train"]) and fact.missing == 0


def part_values(fact: Profile) -> dict[str, list[str]]:
    """Values of a split column that mean each part."""
    return {part: [t for t in sorted(fact.texts()) if t.lower() in known] for part, known in PARTS.items()}


def _shared(guesses: list[Guess], facts: dict[str, Profile]) -> list[Guess]:
    """Slots whose ids are largely those of an earlier slot: one table, at once where the names agree too."""
    result: list[Guess] = []
    owners: list[tuple[Guess, set[str] | frozenset[str]]] = []
    for g in guesses:
        fact = facts[g.column]
        if g.role != "slot" or g.entry.get("kind", "categorical") not in ("categorical", "multi"):
            result.append(g)
            continue
        ids = fact.items or set(fact.texts())
        digits = all(i.lstrip("-").replace(".", "", 1).isdigit() for i in ids)
        best: tuple[float, str, bool] | None = None
        for other, theirs in owners:
            small = min(len(ids), len(theirs))
            share = len(ids & theirs) / small if small >= LEAST_IDS else 0.0
            related = bool(
                {w for w in set(words_of(g.column)) & set(words_of(other.column)) if len(w) > 2 and w not in STRONG_ID}
            )
            if digits:  # 1, 2, 3 ... are everybody's
                related &= says_id(g.column) and says_id(other.column)
            if share >= OVERLAP and (related or not digits) and (best is None or share > best[0]):
                best = (share, other.column, related and share >= SURE)
        owners.append((g, ids))
        if best is not None:
            share, owner, sure = best
            told = f"{g.why}; {share:.0%} of the ids are those of {scalar(owner)}"
            if sure:
                result.append(replace(g, entry={**g.entry, "table": owner}, why=f"{told}, names agree: one table"))
                owners.pop()  # later slots look at the owner of the table
            else:
                result.append(replace(g, why=f"{told}: share its table with `table: {scalar(owner)}`?"))
        else:
            result.append(g)
    return result
