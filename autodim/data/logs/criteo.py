"""Criteo display advertising (Kaggle 2014), the raw TSV: no header, tabs, label, I1-I13, C1-C26, empty is missing.

The counts I1-I13 become ids by floor(log(x)^2), the challenge winners' preprocessing (Juan et al., RecSys 2016).
"""

from __future__ import annotations

from pathlib import Path

from autodim.config.schema import DataConfig, LabelConfig, SlotConfig
from autodim.errors import ConfigError

COUNTS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))


def prepare_log(data: DataConfig, folder: Path) -> DataConfig:
    """Names, slots and label of the raw file(s) at `data.path`; nothing is built.

    Raises:
        ConfigError: no path.
    """
    if data.path is None:
        raise ConfigError("data.log criteo needs data.path: the raw train.txt or day files of the Criteo log")
    slots = [SlotConfig(name=name, kind="buckets") for name in COUNTS] + [SlotConfig(name=n) for n in CATEGORIES]
    return data.model_copy(
        update={
            "header": False,
            "names": data.names or ("label", *COUNTS, *CATEGORIES),
            "delimiter": data.delimiter or "\t",
            "labels": data.labels or (LabelConfig(name="label"),),
            "slots": data.slots or tuple(slots),
        }
    )
