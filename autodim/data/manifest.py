"""What is written beside the encoded columns: enough to read them, to encode new rows and to tell stale ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autodim.config.schema import DataConfig
from autodim.data.files import log_files
from autodim.data.logs import BUILT
from autodim.data.reader import PARQUET_ROWS, Progress
from autodim.data.several import sources
from autodim.errors import DataError, RunError

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

    import pandas as pd

FORMAT = 1
NAME = "manifest.json"
ENDS = 1 << 20  # bytes of a file's start and end that its fingerprint covers
BLOCK = 1 << 22  # bytes that are read at a time


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NumericRecord(_Record):
    """One column of numeric.bin: (sign(x) log(1 + |x|) if `log`, else x) minus mean, over std."""

    name: str
    mean: float
    std: float
    log: bool


class SlotRecord(_Record):
    """One embedded slot; `position`: its column of ids.bin, or (multi, scaled) the k of bag_<k>_*.bin; `weighted`:
    its bags have weights (of `mean`: divided by their sum already); `scale`: of a scaled slot's weights."""

    name: str
    table: str
    kind: Literal["categorical", "multi", "buckets", "scaled"]
    pooling: Literal["sum", "mean"]
    position: int
    edges: tuple[float, ...] | None = None
    weighted: bool = False
    scale: NumericRecord | None = None


class HashRecord(_Record):
    """Distinct texts of a hashed table's slots in the whole log, counted or (`exact` false) within about 0.4 %."""

    buckets: int
    distinct: int
    exact: bool


class TableRecord(_Record):
    """One vocabulary; `missing` is the id of missing values (0: training rows have none), `rare` id 0's count."""

    name: str
    rows: int
    file: str = Field(pattern=r"^vocab_\d+\.parquet$")  # a name in this folder, whatever the manifest says
    missing: int
    rare: int
    hashed: HashRecord | None = None

    @property
    def collisions(self) -> int:
        """Distinct texts that share their id with an earlier one, about; 0 without hashing."""
        return max(0, self.hashed.distinct - (self.rows - 1 - bool(self.missing))) if self.hashed else 0


class PartRecord(_Record):
    """Rows of a part; per label how many have a value, their mean (the share of ones) and, of a
    regression, the standard deviation; of several logs the rows of each, which lie one log after another."""

    rows: int
    labelled: tuple[int, ...]
    positive_rate: tuple[float | None, ...]
    spread: tuple[float | None, ...] = ()
    logs: tuple[int, ...] = ()


class RowsRecord(_Record):
    """read = used + rejected + dropped; blank lines are no rows."""

    read: int
    used: int
    rejected: int
    dropped: int
    blank_lines: int
    rejected_examples: tuple[str, ...] = ()


class Manifest(_Record):
    """The whole file. `data` is the config as it was resolved; files are named by position, never by slot;
    `source_hash` is `content_hash`'s."""

    format: int = FORMAT
    data: DataConfig
    slots: tuple[SlotRecord, ...]
    tables: tuple[TableRecord, ...]
    numeric: tuple[NumericRecord, ...]
    labels: tuple[str, ...]
    parts: dict[str, PartRecord]
    rows: RowsRecord
    thresholds: tuple[float, ...] | None = None
    time: Literal["number", "time"] | None = None  # what time.bin holds: split by time, `time` in microseconds
    config_hash: str
    source_hash: str

    def save(self, folder: Path) -> None:
        (folder / NAME).write_text(json.dumps(self.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Manifest:
        """Read the manifest of an encoded log.

        Raises:
            RunError: missing, damaged, or of another format version.
        """
        path = folder / NAME
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(found, dict) and found.get("format") != FORMAT:
                raise RunError(
                    f"{path}: format {found.get('format')!r}, but this autodim reads format {FORMAT}; run prepare again"
                )
            return Manifest.model_validate(found)
        except (OSError, ValueError, ValidationError) as error:
            raise RunError(f"{path}: no readable manifest ({str(error)[:200]}); run prepare again") from None


def config_hash(data: DataConfig) -> str:
    """Hash of the config's data section but for the paths (what lies there is `content_hash`'s) and for the memory."""
    named = data.model_dump(mode="json", exclude={"path": True, "memory": True, "logs": {"__all__": {"path"}}})
    text = json.dumps(named, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def source_hash(data: DataConfig, base: Path, source: pd.DataFrame | None = None) -> str:
    """Hash of what is read, quickly: of each file its name, size, modification time, first and last megabyte; of a log
    that autodim builds its options and the version of the package that it is built from; of a frame its values."""

    def quick(files: Sequence[Path], digest: Hash) -> None:
        for file in files:
            state = file.stat()
            digest.update(json.dumps([file.name, state.st_size, state.st_mtime_ns]).encode())
            with file.open("rb") as stream:
                digest.update(stream.read(ENDS))
                stream.seek(max(0, state.st_size - ENDS))
                digest.update(stream.read(ENDS))

    return _hash(data, base, source, quick)


def content_hash(
    data: DataConfig, base: Path, source: pd.DataFrame | None = None, progress: Progress | None = None
) -> str:
    """Hash of what is read, wherever it lies and whenever it was written: as `source_hash`, but of each file its name
    and every byte.

    Cost: one reading of the files, about a second a gigabyte.
    """

    def whole(files: Sequence[Path], digest: Hash) -> None:
        sizes = [file.stat().st_size for file in files]
        done = 0
        for file, size in zip(files, sizes, strict=True):
            digest.update(json.dumps([file.name, size]).encode())
            with file.open("rb") as stream:
                while block := stream.read(BLOCK):
                    digest.update(block)
                    done += len(block)
                    if progress is not None:
                        progress("comparing", done, sum(sizes))

    return _hash(data, base, source, whole)


def _hash(
    data: DataConfig, base: Path, source: pd.DataFrame | None, read: Callable[[Sequence[Path], Hash], None]
) -> str:
    digest = hashlib.sha256()
    if source is not None:
        for start in range(0, len(source), PARQUET_ROWS):
            try:
                table = pa.Table.from_pandas(source.iloc[start : start + PARQUET_ROWS], preserve_index=False)
            except (pa.ArrowException, TypeError, ValueError) as error:
                raise DataError(f"the DataFrame has a column of mixed types: {error}; try astype(str)") from None
            digest.update(repr(table.schema.remove_metadata()).encode())
            for batch in table.combine_chunks().to_batches():
                digest.update(batch.serialize())
    elif data.log in BUILT and data.path is None:
        package = BUILT[data.log]
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = "absent"
        digest.update(json.dumps([data.log, package, version, data.options], sort_keys=True).encode())
    else:
        read([file for one in sources(data) for file in log_files(one, base)], digest)
    return digest.hexdigest()
