"""The label: which rows of a column are 1, and which columns could be one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from autodim.config.schema import LabelConfig
from autodim.data.infer.profile import Profile
from autodim.data.infer.words import flow, says_outcome, scalar, usable
from autodim.data.labels import label_values
from autodim.errors import ConfigError, DataError, did_you_mean

POSITIVE = ("1", "yes", "y", "true", "t", "positive", "pos", "click", "clicked", "buy", "bought", "like", "success")
FEW = 20


@dataclass(frozen=True)
class Target:
    """The label.

    Attributes:
        column: where it is read from.
        entry: the label as the config says it.
        why: in words.
        values: N float32 of the sample: 0, 1 or NaN.
        drop: rows to leave out, for `data.drop`.
    """

    column: str
    entry: dict[str, str | int | float]
    why: str
    values: np.ndarray
    drop: dict[str, str | int | float] = field(default_factory=dict)


def find_target(profiles: Sequence[Profile], table: pa.Table, wanted: str | None, missing: Sequence[str]) -> Target:
    """The label that was asked for.

    Args:
        profiles: of all columns.
        table: the sample.
        wanted: a column, or `rating>3`, or `action=buy`.
        missing: texts that mean missing.

    Raises:
        ConfigError: none asked for, no such column, or one whose meaning must be said; lists what could be meant.
        DataError: a label of which the whole sample has one value.
    """
    names = [p.name for p in profiles]
    if wanted is None:
        raise ConfigError(f"which column is the label? Name it with --label.{_listed(profiles)}")
    column, entry, why = _asked(names, wanted) or ("", {}, "")
    if not column:
        hint = did_you_mean(wanted, names)
        raise ConfigError(
            f"--label {wanted!r}: no such column{hint if len(hint) < 500 else f' of {len(names)}'}{_listed(profiles)}"
        )
    fact = profiles[names.index(column)]
    if not usable(column):
        raise ConfigError(
            f"--label {scalar(column)}: a config cannot name this column; rename it (printable, 1 to 200)"
        )
    if fact.column is None or not fact.distinct:
        raise ConfigError(f"--label {column!r}: the column holds {fact.stored or 'nothing'}, but a label is 0 or 1")
    drop: dict[str, str | int | float] = {}
    if not entry:
        entry, why, drop = _meaning(fact)
    entry = {"name": column, **entry}
    values = label_values(table[column], LabelConfig.model_validate(entry), missing)
    if drop.get(column) == -1 and fact.numbers is not None:
        values = np.where(fact.numbers == -1, np.nan, values)
    known = values[~np.isnan(values)]
    share = float(known.mean()) if len(known) else 0.0
    if not 0 < share < 1:
        raise DataError(
            f"--label {wanted!r}: all {len(known):,} sampled rows with a value are {int(share)}, but a model needs "
            f"both classes; check the column{_listed(profiles)}"
        )
    if np.isnan(values).any() and not drop:
        drop = {column: ""}
    return Target(column, entry, f"{why}; {share:.1%} ones of {len(known):,} sampled", values, drop)


def distinct(targets: Sequence[Target]) -> list[Target]:
    """Several labels, each under a name of its own: two of one column are told apart by what makes them 1.

    Raises:
        ConfigError: the same label twice.
    """
    found: list[Target] = []
    for target in targets:
        entry = dict(target.entry)
        if any(target.entry == other.entry for other in targets[: len(found)]):
            raise ConfigError(f"--label {target.column!r}: given twice with the same meaning; take one out")
        if sum(target.column == other.column for other in targets) > 1:
            how = f"above_{entry['above']:g}" if "above" in entry else str(entry.get("equals", "1"))
            entry = {
                "name": f"{target.column}_{how}",
                "column": target.column,
                **{k: entry[k] for k in entry if k != "name"},
            }
        found.append(replace(target, entry=entry))
    return found


def candidates(profiles: Sequence[Profile]) -> list[tuple[str, str]]:
    """(what to give as --label, why), the likeliest first."""
    found = []
    for place, fact in enumerate(profiles):
        if fact.column is None or fact.time or not usable(fact.name):
            continue
        named = says_outcome(fact.name)
        if fact.distinct == 2:
            shown = " and ".join(sorted(repr(t) for t in fact.texts()))
            zero_one = set(fact.texts()) == {"0", "1"} or fact.kind == "bool"
            score, why = 2 + zero_one, f"holds {shown[:80]}"
        elif named and fact.numbers is not None and 2 < fact.distinct <= 100:
            score, why = 2, f"{fact.distinct} different numbers"
        elif named and 2 < fact.distinct <= FEW:
            score, why = 1, f"{fact.distinct} different values"
        else:
            continue
        why += ", named like an outcome" if named else ""
        found.append((-(score + 3 * named), place, fact.name, why))
    return [(name, why) for _, _, name, why in sorted(found)]


def _listed(profiles: Sequence[Profile]) -> str:
    found = candidates(profiles)[:8]
    if not found:
        return "\nNo column holds two values, as a label does; say it as --label 'COLUMN>3' or --label 'COLUMN=value'"
    lines = [f"\n  --label {scalar(name)}   {why}" for name, why in found]
    return "\nCandidates:" + "".join(lines)


def _asked(names: Sequence[str], wanted: str) -> tuple[str, dict[str, str | int | float], str] | None:
    """(column, how it is 1, why), where a column was named, plainly or with a condition."""
    if wanted in names:
        return wanted, {}, ""
    stripped = [name for name in names if name.strip() == wanted.strip()]
    if len(stripped) == 1:
        return stripped[0], {}, ""
    for sign in (">", "="):
        column, found, value = wanted.partition(sign)
        if found and column.strip() in names:
            if sign == "=":
                return column.strip(), {"equals": value.strip()}, "as asked"
            try:
                return column.strip(), {"above": float(value)}, "as asked"
            except ValueError:
                raise ConfigError(f"--label {wanted!r}: found {value!r} after >, expected a number") from None
    return None


def _meaning(fact: Profile) -> tuple[dict[str, str | int | float], str, dict[str, str | int | float]]:
    """(how the label is 1, why, rows to drop)."""
    if fact.numbers is not None:
        values, counts = np.unique(fact.numbers[~np.isnan(fact.numbers)], return_counts=True)
        found = set(values.tolist())
        if found <= {0.0, 1.0}:
            return {}, "holds 0 and 1", {}
        if found == {-1.0, 0.0, 1.0}:
            return {}, "holds 0 and 1, and -1 for unknown: such rows are left out", {fact.name: -1}
        if len(found) == 2:
            return {"above": float(values[0])}, f"two numbers, the greater ({values[1]:g}) is taken as 1", {}
        above = counts[::-1].cumsum()[::-1][1:] / counts.sum()  # share above values[i]
        if len(values) > FEW and values[0] == 0 and counts[0] > 0.4 * counts.sum():
            return {"above": 0.0}, f"{len(values):,} numbers, many of them 0: 1 is anything above", {}
        cut = int(np.argmin(np.abs(above - 0.5)))
        return {"above": float(values[cut])}, f"{len(values):,} numbers, cut where the halves are most equal", {}
    texts = sorted(fact.texts())
    if len(texts) == 2:
        for text in texts:
            if text.strip().lower() in POSITIVE:
                return {"equals": text}, f"two texts, of which {text!r} says yes", {}
        assert fact.column is not None
        codes = [fact.column.values.to_pylist().index(text) for text in texts]
        rarer = texts[int(np.argmin([(fact.column.codes == code).sum() for code in codes]))]
        return {"equals": rarer}, f"two texts, the rarer ({rarer!r}) is taken as 1", {}
    if len(texts) == 1:
        return {"equals": texts[0]}, "one text", {}
    shown = "".join(f"\n  --label {scalar(f'{fact.name}={text}')}" for text in texts[:8])
    raise ConfigError(
        f"--label {fact.name!r}: {len(texts):,} different texts, so say which is 1:{shown}"
        + ("\n  ..." if len(texts) > 8 else "")
    )


def label_line(target: Target) -> str:
    """The label as a YAML list item."""
    return f"- {flow(target.entry)}"
