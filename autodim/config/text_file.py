"""Reading a small text file without hanging, without filling the memory, and without guessing its encoding."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from autodim.config.spelling import plain_key
from autodim.errors import ConfigError

MAX_BYTES = 1_000_000


def read_text(path: Path) -> str:
    """The text of a config file.

    Raises:
        ConfigError: not a regular file, larger than 1 MB, not UTF-8, or holding NUL.
    """
    try:
        # Non-blocking, and judged after opening: a pipe or a device must neither hang nor be read without end.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ConfigError(f"{path}: not a regular file; expected a YAML file")
            raw = file.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder; expected a YAML file") from None
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `autodim ls configs` lists the shipped ones") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{plain_key(str(path))}: cannot be read: {error}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES:,} bytes; expected a config, is this the log?")
    return decode(raw, str(path))


def decode(raw: bytes, source: str) -> str:
    """UTF-8 bytes (a byte order mark is allowed) to text without NUL."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        utf16 = raw[:2] in (b"\xff\xfe", b"\xfe\xff")
        found = "UTF-16" if utf16 else f"byte 0x{raw[error.start]:02x}"
        raise ConfigError(f"{source}:{line}: found {found}, expected UTF-8 text; save the file as UTF-8") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise ConfigError(f"{source}:{line}: found a NUL character, expected plain text; is this a YAML file?")
    return text
