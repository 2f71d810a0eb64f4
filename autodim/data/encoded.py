"""The encoded log: a folder of memory-mapped columns with a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autodim.data.columns import Columns
from autodim.data.encoder import BAGS
from autodim.data.manifest import Manifest
from autodim.data.several import LogRows, log_rows
from autodim.data.splits import PARTS
from autodim.data.tasks import Task
from autodim.data.vocabulary import Vocabulary
from autodim.embedding.layout import Slot, Table
from autodim.errors import RunError


@dataclass(frozen=True)
class EncodedLog:
    """A folder that `encode` wrote.

    Attributes:
        path: the folder.
        manifest: what is in it.
    """

    path: Path
    manifest: Manifest

    @staticmethod
    def open(path: Path) -> EncodedLog:
        """Raises RunError where the folder is not whole."""
        return EncodedLog(path, Manifest.load(path))

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The embedded slots in the config's order, multi-valued ones among them.

        Weighted bags are summed: the weights of `mean` add up to 1 in every row already.
        """
        return tuple(
            Slot(s.name, s.table, s.kind in BAGS, "sum" if s.weighted else s.pooling) for s in self.manifest.slots
        )

    @property
    def tables(self) -> tuple[Table, ...]:
        return tuple(Table(t.name, t.rows) for t in self.manifest.tables)

    @property
    def one_hot_slots(self) -> tuple[str, ...]:
        """Names of the columns of `ids`."""
        return tuple(s.name for s in self.manifest.slots if s.kind not in BAGS)

    @property
    def multi_slots(self) -> tuple[str, ...]:
        """Names of the bags, in the order of their files."""
        return tuple(s.name for s in self.manifest.slots if s.kind in BAGS)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What each label asks of a model; regressions with the mean and the spread of the training rows, others with
        their rate."""
        train = self.manifest.parts["train"]
        found = []
        for t, label in enumerate(self.manifest.data.labels):
            mean = train.positive_rate[t]
            if label.kind == "regression":
                found.append(Task(label.name, label.kind, label.role, mean or 0.0, train.spread[t] or 1.0))
            else:
                found.append(Task(label.name, label.kind, label.role, rate=mean))
        return tuple(found)

    def logs(self, part: str) -> tuple[LogRows, ...]:
        """Where the rows of each of several logs lie in a part; empty: one log."""
        return log_rows(self.manifest.data, self.manifest.parts[part].logs)

    @property
    def numeric(self) -> tuple[str, ...]:
        return tuple(record.name for record in self.manifest.numeric)

    def counts(self, table: str) -> Tensor:
        """Training count of every id of a table: int64, its rows; row 0: values too rare for an id of their own."""
        rows = {t.name: t.rows for t in self.manifest.tables}
        flat = _map(self.path / "counts.bin", np.int64, (sum(rows.values()),))
        start = sum(list(rows.values())[: list(rows).index(table)])
        return torch.from_numpy(flat[start : start + rows[table]])

    def vocabulary(self, table: str) -> Vocabulary:
        """The texts of a table's ids."""
        record = next(t for t in self.manifest.tables if t.name == table)
        found = Vocabulary.load(self.path / record.file, record.rare)
        if found.rows != record.rows:
            raise RunError(f"{self.path / record.file}: {found.rows} ids, but the manifest says {record.rows}")
        return found

    def times(self, part: str) -> Tensor:
        """When each row of a part was: N float64, microseconds since 1970 or the column's own numbers (the manifest's
        `time` tells).

        Raises:
            RunError: the log was not split by time, or it was encoded by a version that kept no times.
        """
        if self.manifest.time is None:
            raise RunError(
                f"{self.path}: no times of rows; they are kept where data.split.by is `time`; run prepare again"
            )
        return torch.from_numpy(_map(self.path / part / "time.bin", np.float64, (self.manifest.parts[part].rows,)))

    def part(self, name: str) -> Columns:
        """The rows of `train`, `valid` or `test`, memory-mapped (writes to them never reach the disk).

        Raises:
            RunError: a file that is missing or has another size than the manifest says.
        """
        if name not in PARTS:
            raise RunError(f"no part {name!r}; known: {', '.join(PARTS)}")
        folder, rows = self.path / name, self.manifest.parts[name].rows
        ids = _map(folder / "ids.bin", np.int32, (rows, len(self.one_hot_slots)))
        numeric = _map(folder / "numeric.bin", np.float32, (rows, len(self.manifest.numeric)))
        labels = _map(folder / "labels.bin", np.float32, (rows, len(self.labels)))
        bags, weights = {}, {}
        weighted = {s.name for s in self.manifest.slots if s.weighted}
        for k, slot in enumerate(self.multi_slots):
            offsets = _map(folder / f"bag_{k}_offsets.bin", np.int64, (rows + 1,))
            values = _map(folder / f"bag_{k}_values.bin", np.int32, (int(offsets[-1]),))
            bags[slot] = (torch.from_numpy(values), torch.from_numpy(offsets))
            if slot in weighted:
                weights[slot] = torch.from_numpy(_map(folder / f"bag_{k}_weights.bin", np.float32, values.shape))
        return Columns(
            torch.from_numpy(ids),
            torch.from_numpy(numeric),
            torch.from_numpy(labels),
            bags,
            self.one_hot_slots,
            weights,
        )


def _map(path: Path, kind: type, shape: tuple[int, ...]) -> np.ndarray:
    """A file as an array. Copy-on-write, because torch wants memory that may be written to."""
    wanted = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
    try:
        size = path.stat().st_size
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}; run prepare again") from None
    if size != wanted:
        raise RunError(f"{path}: {size} bytes where the manifest promises {wanted}; run prepare again")
    return np.memmap(path, kind, "c", shape=shape) if wanted else np.empty(shape, kind)
