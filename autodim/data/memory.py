"""How `data.memory` is shared out among the things that grow with a log."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

_LIBC = ctypes.CDLL(None) if hasattr(ctypes.CDLL(None), "malloc_trim") else None  # glibc has it
_CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Limits:
    """Bytes that each consumer may take. The result of `encode` never depends on them.

    Attributes:
        block: text read at once; translating it takes about 12 times as much.
        vocabularies: texts and counts of all vocabularies in memory; counting and looking up take 5 to 8 times as much.
        partition: records of a spilled vocabulary that are merged at once; merging takes about 8 times as much.
        group: translated pieces whose texts are looked up together; 4 times as much.
        tight: a total was set, so that freed memory is given back at once.
    """

    block: int
    vocabularies: int
    partition: int
    group: int
    tight: bool = False

    @staticmethod
    def of(megabytes: int | None) -> Limits:
        """Shares of a total in MB; None: half of the machine's memory (or of the container's)."""
        total = (machine_memory() // 2) if megabytes is None else megabytes << 20
        return Limits(
            block=total // 32,
            vocabularies=total // 24,
            partition=total // 24,
            group=total // 24,
            tight=megabytes is not None,
        )


def release() -> None:
    """Gives freed memory back to the system; allocators keep it otherwise. Cost: a millisecond or so."""
    pa.default_memory_pool().release_unused()
    if _LIBC is not None:
        _LIBC.malloc_trim(0)


def machine_memory() -> int:
    """Bytes of memory that this process could have."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _CGROUP:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            found.append(int(text))
    return min(found)
