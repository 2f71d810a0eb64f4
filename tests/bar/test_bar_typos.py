"""Typos: each key of the schema mistyped once is refused with the key that was meant, before any data is read.

Five typos of every key, of every choice, and all errors at once with their lines are in
`tests/config/test_config_typos.py`.
"""

from __future__ import annotations

import builtins
import io
import os
import random

import pytest
from typer.testing import CliRunner

from autodim.cli import app
from autodim.config import load_config, walk
from autodim.errors import ConfigError

KEYS = [key for key, _ in walk.fields() if "[]" not in key and "*" not in key]


def typo(word: str, draw: random.Random) -> str:
    """One edit: two letters swapped, or one lost, doubled or replaced."""
    k = draw.randrange(len(word))
    kinds = [word[:k] + word[k + 1 :], word[:k] + word[k] + word[k:], word[:k] + "q" + word[k + 1 :]]
    if k + 1 < len(word):
        kinds.append(word[:k] + word[k + 1] + word[k] + word[k + 2 :])
    return draw.choice([kind for kind in kinds if kind and kind != word])


def test_each_key_mistyped_once_is_refused_with_the_key_that_was_meant():
    draw, guessed = random.Random(0), 0
    minimal = {"data": {"path": "x.csv", "labels": ["click"], "slots": ["user"]}}
    for key in KEYS:
        *parents, word = key.split(".")
        wrong = typo(word, draw)
        while ".".join([*parents, wrong]) in KEYS:
            wrong = typo(word, draw)
        with pytest.raises(ConfigError) as error:
            load_config(minimal, [f"{'.'.join([*parents, wrong])}=1"])
        assert "unknown key" in str(error.value), (key, wrong)
        guessed += f'"{word}"' in str(error.value)
    print(f"{len(KEYS)} keys, {guessed} guessed")
    assert len(KEYS) > 80
    assert guessed >= 0.95 * len(KEYS)


def test_a_typo_ends_the_command_with_2_before_any_data_is_read(tmp_path, monkeypatch):
    log = tmp_path / "clicks.csv"
    log.write_text("user,click\na,1\nb,0\n")
    config = tmp_path / "config.yaml"
    config.write_text(
        f"run: {tmp_path / 'run'}\ndata: {{path: {log}, labels: [click], slots: [user]}}\npretrian: {{}}\n"
    )
    opened: list[str] = []
    real = builtins.open

    def watching(file, *args, **rest):
        if isinstance(file, str | os.PathLike):
            opened.append(os.fspath(file))
        return real(file, *args, **rest)

    monkeypatch.setattr(builtins, "open", watching)
    monkeypatch.setattr(io, "open", watching)
    result = CliRunner().invoke(app, ["search", str(config)])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_code == 2
    assert 'config.yaml:3: pretrian: unknown key; did you mean "pretrain"?' in str(result.exception)
    assert str(log) not in opened
    assert not (tmp_path / "run").exists()
