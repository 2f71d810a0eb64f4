"""Logs as published, recognised by their columns and values."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from autodim.data.infer.sniff import Format
from autodim.data.logs import avazu, criteo

MOVIELENS = ("user", "item", "rating", "timestamp")


def known_log(form: Format, table: pa.Table) -> str:
    """`criteo`, `avazu` (which are read by `data.log`), `movielens` (ratings without a header), or nothing."""
    names = form.names
    if form.parquet and set(names) >= {"label", *criteo.COUNTS, *criteo.CATEGORIES}:
        return "criteo"
    if not form.parquet and not form.header and form.delimiter == "\t" and len(names) == 40 and _criteo(table):
        return "criteo"
    if set(names) >= {"click", "hour", *avazu.CATEGORIES} and (form.parquet or form.delimiter == ","):
        return "avazu"
    if not form.parquet and not form.header and len(names) == 4 and _ratings(table):
        return "movielens"
    return ""


def _all(column: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, f"^({pattern})$"), min_count=0).as_py())


def _criteo(table: pa.Table) -> bool:
    patterns = ["[01]"] + ["|-?[0-9]+"] * len(criteo.COUNTS) + ["|[0-9a-f]{8}"] * len(criteo.CATEGORIES)
    return all(_all(table.column(i), pattern) for i, pattern in enumerate(patterns))


def _ratings(table: pa.Table) -> bool:
    patterns = ["[0-9]+", "[0-9]+", r"[0-5](\.[05])?", "[6-9][0-9]{8}|[12][0-9]{9}"]
    return all(_all(table.column(i), pattern) for i, pattern in enumerate(patterns))
