"""`autodim init` as a person meets it: from an unknown log to widths in three commands, and nothing overwritten."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import tiny_frame

from autodim.cli import main

Command = Callable[..., tuple[int, str, str]]
SHORT = ["threads=1", "pretrain.epochs=2", "retrain.epochs=1", "model.hidden=[8]"]


@pytest.fixture
def autodim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["autodim", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_three_commands_from_an_unknown_log_to_widths(autodim: Command, tmp_path: Path) -> None:
    tiny_frame(1500).to_csv("clicks.csv", index=False)
    code, out, err = autodim("init", "clicks.csv", "--label", "click")
    assert (code, out) == (0, "my.yaml\n")
    assert "autodim search my.yaml --dry-run" in err and "tags   multi" in err
    assert autodim("search", "my.yaml", "--dry-run", *SHORT)[0] == 0
    assert autodim("search", "my.yaml", "--quiet", *SHORT)[0] == 0
    assert (tmp_path / "runs" / "my" / "widths.yaml").is_file()


def test_a_parquet_with_list_columns_needs_no_edit(autodim: Command, tmp_path: Path) -> None:
    frame = tiny_frame(1500)
    frame["tags"] = [text.split("|") if text else [] for text in frame["tags"]]
    frame.to_parquet("clicks.parquet")
    code, _, err = autodim("init", "clicks.parquet", "--label", "click", "--out", "lists.yaml")
    assert code == 0 and "lists of 5 distinct ids" in err
    assert autodim("search", "lists.yaml", "--quiet", *SHORT)[0] == 0
    assert "tags" in (tmp_path / "runs" / "lists" / "widths.yaml").read_text()


def test_nothing_is_overwritten_without_force(autodim: Command, tmp_path: Path) -> None:
    tiny_frame(200).to_csv("clicks.csv", index=False)
    Path("my.yaml").write_text("mine")
    code, _, err = autodim("init", "clicks.csv", "--label", "click")
    assert code == 2 and "--force" in err and Path("my.yaml").read_text() == "mine"
    assert autodim("init", "clicks.csv", "--label", "click", "--force")[0] == 0
    assert "click" in Path("my.yaml").read_text()
    assert autodim("init", "clicks.csv", "--label", "click", "--out", "no/where.yaml")[0] == 2
    Path("link.yaml").symlink_to("my.yaml")
    assert autodim("init", "clicks.csv", "--label", "click", "--out", "link.yaml", "--force")[0] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clicks.csv", "link.yaml", "my.yaml"]


def test_a_file_that_appears_meanwhile_wins(tmp_path: Path) -> None:
    from autodim.cli.init import write
    from autodim.errors import ConfigError

    target = tmp_path / "my.yaml"
    target.write_text("theirs")
    with pytest.raises(ConfigError, match="exists already"):
        write(target, "ours", force=False)
    assert target.read_text() == "theirs" and len(list(tmp_path.iterdir())) == 1


def test_without_a_label_the_candidates_are_told(autodim: Command) -> None:
    tiny_frame(200).to_csv("clicks.csv", index=False)
    code, out, err = autodim("init", "clicks.csv")
    assert code == 2 and not out and "--label click" in err and not Path("my.yaml").exists()


def test_names_cannot_write_to_the_terminal(autodim: Command) -> None:
    frame = tiny_frame(200)
    frame["\x1b[31mred"] = "x"
    frame.to_parquet("clicks.parquet")
    code, _, err = autodim("init", "clicks.parquet", "--label", "click")
    assert code == 0 and "\x1b" not in err
