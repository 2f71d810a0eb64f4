"""A run or a config that is not there is one mistake, with one exit code, whichever command meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from autodim.cli import app
from autodim.errors import AutodimError, ConfigError, NoSuchRun, RunError

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
ASKING = {  # each command whose first argument is a run or a config, with what else it cannot do without
    **{name: [] for name in ("search", "prepare", "pretrain", "prune", "retrain", "evaluate", "show", "cp")},
    **{name: [] for name in ("compare", "sweep", "oracle", "stress", "relate", "outcomes")},
    **{name: [] for name in ("hessian", "widen", "report", "export", "verify", "bench")},
    "recipes": ["recipes.yaml"],
    "predict": ["rows.csv"],
    "continue": ["--data", "rows.csv"],
    "refresh": ["--data", "rows.csv", "--out", "new"],
}


def test_no_command_is_forgotten():
    first = {n: [p.metavar or p.name for p in c.params if p.param_type_name == "argument"] for n, c in COMMANDS.items()}
    asking = {n for n, found in first.items() if found and found[0].strip("[]") in ("RUN", "CONFIG", "NAME")}
    assert asking == set(ASKING)


def test_help_leaves_no_word_unexplained():
    """Each argument is named in capitals and each option explained; commands are told in one mood: `Train ...`."""
    for name, command in COMMANDS.items():
        assert command.help and not command.help.split()[0].endswith("s"), name
        for one in command.params:
            assert getattr(one, "help", None) or one.name == "help", f"{name} {one.name}"
            if one.param_type_name == "argument":
                assert one.metavar and one.metavar == one.metavar.upper(), f"{name} {one.name}"
                assert "[" not in one.metavar, f"{name} {one.name}"  # the brackets of what may be left out are drawn


def code(*words: str) -> int:
    """Of the command line, whose `main` turns an error into its exit code."""
    done = CliRunner().invoke(app, list(words))
    return done.exception.exit_code if isinstance(done.exception, AutodimError) else done.exit_code


@pytest.mark.parametrize("command", ASKING)
def test_a_name_of_nothing_is_the_same_mistake_everywhere(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("user,click\na,1\n")
    Path("recipes.yaml").write_text("vary: {lr: {a: [], b: []}}\n")
    Path("empty").mkdir()
    for name in ("nosuch", "no/such", "empty", "x" * 300):
        assert code(command, name, *ASKING[command]) == ConfigError.exit_code == 2, name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "recipes.yaml", "rows.csv"]  # and nothing is left


def test_a_second_run_and_rows_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert issubclass(NoSuchRun, RunError)  # who catches the family goes on doing so
    assert code("compare", "movielens", "--also", "nosuch", "--out", "x") == 2
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("data: {path: a.csv, labels: [click], slots: [user]}\n")
    for command in (["continue", "run", "--data", "nowhere.csv"], ["search", "run"]):
        assert code(*command) == 3
    assert code("predict", "run", "nowhere.csv") == 5  # the run is there, and has no model yet
