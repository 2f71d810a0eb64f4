"""Paths in configs: `${AUTODIM_DATA}` and relative names."""

from __future__ import annotations

import os
import re
from pathlib import Path

from autodim.config.spelling import quoted
from autodim.errors import ConfigError

VARIABLE = "AUTODIM_DATA"
DEFAULT = Path("..") / "shared" / "data"
_REFERENCE = re.compile(r"\$\{([^}]*)\}|\$([A-Za-z_]\w*)")


def expand_path(text: str, base: Path | None = None) -> Path:
    """A path of a config as an absolute path; called when the data is read, not when the config is.

    Args:
        text: such as `${AUTODIM_DATA}/ml1m.parquet`, `clicks.csv` or `~/clicks.csv`.
        base: what relative paths start from; default: the current folder.

    Raises:
        ConfigError: another variable, or AUTODIM_DATA is not set and `../shared/data` does not exist.
    """
    base = Path.cwd() if base is None else base
    if not text or "\0" in text:
        raise ConfigError(f"found the path {quoted(text)}, expected the name of a file")
    expanded = _REFERENCE.sub(lambda match: _value(match, text, base), text)
    if expanded == "~" or expanded.startswith("~/"):
        expanded = str(Path.home()) + expanded[1:]
    return Path(os.path.abspath(base / expanded))


def _value(match: re.Match[str], text: str, base: Path) -> str:
    name = match[1] if match[1] is not None else match[2]
    if name != VARIABLE or match[1] is None:
        raise ConfigError(f"path {quoted(text)}: found {quoted(match[0])}, but only ${{{VARIABLE}}} is expanded")
    if value := os.environ.get(VARIABLE):
        return value
    if (base / DEFAULT).is_dir():
        return str(base / DEFAULT)
    raise ConfigError(
        f"path {quoted(text)}: the environment variable {VARIABLE} is not set, and {base / DEFAULT} does not exist; "
        f"set it to the folder that holds the file (export {VARIABLE}=/path/to/data), or give the path itself"
    )
