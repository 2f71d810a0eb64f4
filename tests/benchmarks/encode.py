"""How fast prepare is beside pandas, and how much memory it takes of a log ten times larger than its cap.

    python tests/benchmarks/encode.py rate --rows 1000000 --rounds 2       # pandas, autodim, pandas, autodim
    python tests/benchmarks/encode.py memory --cap 128                     # a log of 1.3 GB under a cap of 128 MB

The log is shaped like Criteo's: a label, 13 counts, 26 columns of hexadecimal ids with Zipf frequencies. Both sides
start from the CSV: pandas reads it in chunks (categories as text) and factorizes every column over all chunks; autodim
does all of prepare: strict reading, row accounting, vocabularies by frequency, splits, files on disk.
Each side runs in a process of its own; times are wall clock, memory is the kernel's high-water mark.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

COUNTS, IDS = 13, 26
STEP = 200_000


def write_log(path: Path, rows: int, seed: int = 0) -> None:
    """About 260 bytes a row."""
    rng = np.random.default_rng(seed)
    writer = None
    for start in range(0, rows, STEP):
        n = min(STEP, rows - start)
        columns: dict[str, np.ndarray | pa.Array] = {"click": rng.integers(0, 2, n)}
        for i in range(COUNTS):
            columns[f"I{i}"] = np.exp(rng.normal(1, 2, n)).astype(np.int64)
        for i in range(IDS):
            ids = (rng.zipf(1.2 + 0.03 * i, n) % 1_000_003).astype(np.uint32) * np.uint32(2654435761)
            digits = b"0123456789abcdef"
            table = np.frombuffer(digits, np.uint8)
            text = table[(ids[:, None] >> np.arange(28, -4, -4, dtype=np.uint32)) & np.uint32(15)]
            starts = np.arange(0, 8 * n + 8, 8, dtype=np.int32)
            buffers = [None, pa.py_buffer(starts), pa.py_buffer(text.tobytes())]
            columns[f"C{i}"] = pa.Array.from_buffers(pa.string(), n, buffers)
        batch = pa.table(columns)
        if writer is None:
            writer = pa.csv.CSVWriter(path, batch.schema, write_options=pa.csv.WriteOptions(quoting_style="none"))
        writer.write_table(batch)
    assert writer is not None
    writer.close()


def by_pandas(path: Path) -> dict[str, float]:
    """read_csv in chunks, and codes over all chunks by factorize."""
    import pandas as pd

    began = time.perf_counter()
    names = [f"I{i}" for i in range(COUNTS)] + [f"C{i}" for i in range(IDS)]
    kinds = {f"C{i}": str for i in range(IDS)}
    chunks = list(pd.read_csv(path, dtype=kinds, chunksize=STEP, keep_default_na=False))
    rows = sum(map(len, chunks))
    for name in names:
        codes, values = pd.factorize(pd.concat([chunk[name] for chunk in chunks]))
        np.bincount(codes, minlength=len(values))
    return {"rows": rows, "seconds": time.perf_counter() - began, **_memory()}


def by_autodim(path: Path, cap: int | None) -> dict[str, float]:
    """All of prepare."""
    from autodim.config.schema import DataConfig, SlotConfig
    from autodim.data.encode import encode

    slots = [SlotConfig(name=f"I{i}", kind="buckets") for i in range(COUNTS)]
    slots += [SlotConfig(name=f"C{i}") for i in range(IDS)]
    data = DataConfig(path=str(path), labels=["click"], slots=slots, memory=cap)
    before = _memory()["resident"]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        manifest = encode(data, Path(folder) / "log")
    return {
        "rows": manifest.rows.used,
        "seconds": time.perf_counter() - began,
        "before": before,
        "ids": sum(table.rows for table in manifest.tables),
        **_memory(),
    }


def _memory() -> dict[str, float]:
    """MB: what is resident now, and the most that ever was."""
    status = Path("/proc/self/status").read_text()
    return {
        name: int(status.split(key)[1].split()[0]) / 1024 for name, key in (("resident", "VmRSS:"), ("peak", "VmHWM:"))
    }


def _apart(side: str, path: Path, cap: int | None = None) -> dict[str, float]:
    words = [sys.executable, __file__, side, "--log", str(path), *(["--cap", str(cap)] if cap else [])]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rate", "memory", "pandas", "autodim"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cap", type=int, default=None, help="MB; memory: default 128")
    parser.add_argument("--log", type=Path)
    chosen = parser.parse_args()
    if chosen.what == "pandas":
        print(json.dumps(by_pandas(chosen.log)))
        return
    if chosen.what == "autodim":
        print(json.dumps(by_autodim(chosen.log, chosen.cap)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        if chosen.what == "rate":
            write_log(path, chosen.rows)
            print(f"{chosen.rows:,} rows, {path.stat().st_size >> 20} MB of CSV")
            for _ in range(chosen.rounds):
                for side in ("pandas", "autodim"):
                    found = _apart(side, path, chosen.cap if side == "autodim" else None)
                    rate = found["rows"] / found["seconds"]
                    print(f"{side:<8} {found['seconds']:6.1f} s  {rate:9,.0f} rows/s  peak {found['peak']:,.0f} MB")
            return
        cap = chosen.cap or 128
        write_log(path, 10 * cap * (1 << 20) // 255)
        found = _apart("autodim", path, cap)
        print(
            f"log {path.stat().st_size >> 20:,} MB, cap {cap} MB: {found['rows']:,} rows, {found['ids']:,} ids in "
            f"{found['seconds']:.0f} s; resident before {found['before']:.0f} MB, at the peak {found['peak']:.0f} MB: "
            f"{found['peak'] - found['before']:.0f} MB more"
        )


if __name__ == "__main__":
    main()
