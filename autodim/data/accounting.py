"""Every row that is read is used, rejected or dropped; this is where the rejected ones are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autodim.errors import DataError

EXAMPLES = 5  # rejected rows that the manifest remembers


@dataclass
class Rejects:
    """Counts rejected rows and stops at the first one too many.

    Attributes:
        limit: rows that may be rejected.
        setting: what sets the limit.
        rejected: rows rejected so far.
        blank: lines without any character; they are no rows and are counted apart.
        examples: where and why, for the first few.
    """

    limit: int
    setting: str = "data.max_bad_rows"
    rejected: int = 0
    blank: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, where: str, reason: str, text: str | None = None) -> None:
        """Count one rejected row.

        Raises:
            DataError: when more than `limit` rows are rejected.
        """
        self.rejected += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{where}: {reason}")
        if self.rejected > self.limit:
            shown = f"; it reads {excerpt(text)}" if text is not None else ""
            raise DataError(
                f"{where}: {reason}{shown}. That makes {self.rejected} rejected row(s), {self.setting} allows "
                f"{self.limit}: correct the file, or raise {self.setting} to leave such rows out"
            )

    def add_all(self, source: str, unit: str, lines: Sequence[int], reason: str, remedy: str) -> None:
        """Count rows of one source that are bad for one reason, all of them before it stops.

        Args:
            source: the file. unit: `line` or `row`. lines: their numbers, ascending.
            reason: what they hold. remedy: what was expected, and what to do.

        Raises:
            DataError: when more than `limit` rows are rejected; it names the first few.
        """
        self.rejected += len(lines)
        for line in lines[: max(0, EXAMPLES - len(self.examples))]:
            self.examples.append(f"{source}, {unit} {line}: {reason}")
        if self.rejected > self.limit:
            raise DataError(
                f"{source}, {places(unit, lines)}: {reason}, {remedy}. That makes {self.rejected:,} rejected row(s) so "
                f"far, {self.setting} allows {self.limit:,}: correct the file, or raise {self.setting} to leave such "
                "rows out"
            )


def places(unit: str, lines: Sequence[int]) -> str:
    """`line 7`, or `lines 2, 5, 9, 11, 12 and 95 more`."""
    if len(lines) == 1:
        return f"{unit} {lines[0]}"
    more = f" and {len(lines) - EXAMPLES:,} more" if len(lines) > EXAMPLES else ""
    return f"{unit}s {', '.join(str(line) for line in lines[:EXAMPLES])}{more}"


def excerpt(text: str, length: int = 80) -> str:
    """The start of a text, quoted, with control characters escaped: safe to print."""
    return repr(text[:length] + ("..." if len(text) > length else ""))


def printable(text: str) -> str:
    """A text with its control characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
