"""The command line as a script and a person meet it: exit codes, what goes to stdout and what to stderr, files."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY, tiny_config, tiny_frame
from safetensors import safe_open

from autodim.cli import main
from autodim.config.writer import to_yaml
from autodim.dimension.allocation import Allocation


class Said(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Said]


@pytest.fixture
def autodim(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`autodim ...` through its own entry point, in this process (torch is loaded once)."""

    def call(*words: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["autodim", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    return call


@pytest.fixture(scope="module")
def config(tiny_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config file whose run folder does not exist yet."""
    folder = tmp_path_factory.mktemp("cli")
    path = folder / "tiny.yaml"
    path.write_text(to_yaml(tiny_config(tiny_log, folder / "run", "pretrain.epochs=2", "retrain.epochs=1")))
    return path


@pytest.fixture(scope="module")
def run(config: Path) -> Path:
    """A finished run."""
    from autodim.config import load_config
    from autodim.stages.search import search
    from autodim.training.progress import Progress

    return search(load_config(config, [f"run={config.parent / 'done'}"]).config, Progress("quiet")).folder


def contents(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


def is_one_message(said: Said) -> bool:
    """One `error: ...` on stderr, nothing else; no traceback, no half result."""
    return said.out == "" and said.err.startswith("error: ") and "Traceback" not in said.err and "File " not in said.err


WRONG = {
    "no such config": (2, ["search", "movelens"], 'did you mean "movielens"'),
    "an unknown key": (2, ["search", "CONFIG", "prune.budgett.share=0.5"], "did you mean"),
    "a value of the wrong kind": (2, ["search", "CONFIG", "model.width=many"], "model.width"),
    "an unknown family": (2, ["ls", "modles"], 'did you mean "models"'),
    "an unknown format": (2, ["export", "RUN", "--format", "torchrecc"], 'did you mean "torchrec"'),
    "weights to a terminal": (2, ["export", "RUN", "--format", "safetensors"], "--out"),
    "an unknown strategy": (2, ["compare", "CONFIG", "--strategies", "sseds,unifrom"], 'did you mean "uniform"'),
    "no widths file": (2, ["retrain", "RUN", "--widths", "nowhere.yaml"], "nowhere.yaml"),
    "an unknown model": (2, ["predict", "RUN", "LOG", "--model", "big"], "uniform"),
    "an unknown suffix": (2, ["predict", "RUN", "LOG", "--out", "scores.xls"], ".parquet"),
    "no such log": (3, ["search", "CONFIG", "data.path=nowhere.csv"], "nowhere.csv"),
    "no such column": (3, ["search", "CONFIG", "data.labels=[clik]"], 'did you mean "click"'),
    "a label that is no label": (3, ["search", "CONFIG", "data.labels=[user]", "data.slots=[item]"], "user"),
    "a slot that is the label": (2, ["search", "CONFIG", "data.labels=[user]"], "take the slot out"),
    "a device that is not here": (2, ["search", "CONFIG", "device=tpu"], "device"),
    "a file in the run's place": (5, ["search", "CONFIG", "run=short.csv"], "short.csv"),
    "new rows without a column": (3, ["predict", "RUN", "SHORT"], "place"),
    "an impossible budget": (4, ["search", "CONFIG", "prune.budget={amount: 3}", "prune.min_dim=2"], "smallest"),
    "an earlier stage is missing": (5, ["prune", "CONFIG"], "autodim pretrain"),
    "training that explodes": (6, ["search", "CONFIG", "pretrain.optimizer.tables={name: sgd, lr: 1e30}"], "finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_users_error_is_one_message_and_its_exit_code(name, autodim, config, run, tiny_log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, words, hint = WRONG[name]
    tiny_frame(5).drop(columns="place").to_csv("short.csv", index=False)
    places = {"CONFIG": str(config), "RUN": str(run), "LOG": str(tiny_log), "SHORT": "short.csv"}
    words = [places.get(w, w) for w in words]
    if "CONFIG" in WRONG[name][1] and words[0] != "compare" and "run=short.csv" not in words:
        words.append(f"run={tmp_path / 'run'}")
    if words[0] in ("search", "prune", "retrain"):
        words.append("--quiet")
    said = autodim(*words)
    assert said.code == code, said
    assert is_one_message(said), said
    assert hint in said.err


# Each was once a traceback, an exit with 0, or hours of training before the error.
EARLY = {
    "a dry run without a budget": ["search", "CONFIG", "prune={budget: {amount: 3}, min_dim: 2}", "--dry-run"],
    "a missing widths file": ["search", "CONFIG", "prune.strategy=manual", "prune.widths=nowhere.yaml"],
    "a test part without rows": ["search", "CONFIG", "data.split={by: random, valid: 0.2, test: 0}"],
    "a device that predict does not know": ["predict", "RUN", "LOG", "--device", "tpu"],
    "a run folder that cannot be made": ["search", "CONFIG", "run=/proc/nowhere/run"],
    "weights into a folder": ["export", "RUN", "--format", "safetensors", "--out", "."],
    "a share above 1": ["compare", "CONFIG", "--shares", "7", "--seeds", "0", "--out", "compared"],
    "half a seed": ["compare", "CONFIG", "--strategies", "uniform", "--seeds", "0.5", "--out", "compared"],
    "no strategies": ["compare", "CONFIG", "--strategies", ",", "--seeds", "0", "--out", "compared"],
}


@pytest.mark.parametrize("name", EARLY)
def test_a_users_error_is_told_before_anything_is_trained(name, autodim, config, run, tiny_log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [{"CONFIG": str(config), "RUN": str(run), "LOG": str(tiny_log)}.get(w, w) for w in EARLY[name]]
    if words[0] == "search" and not any(w.startswith("run=") for w in words):
        words.append("run=run")
    said = autodim(*words)
    assert 2 <= said.code <= 6 and "error: " in said.err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_scores_go_into_a_folder_that_is_made(autodim, run, tiny_log, tmp_path):
    assert autodim("predict", run, tiny_log, "--out", tmp_path / "new" / "scores.csv").code == 0
    assert len((tmp_path / "new" / "scores.csv").read_text().splitlines()) == 3001


def test_a_log_without_slots_walks_the_road(autodim, config, tmp_path):
    said = autodim("search", config, "data.slots=[{name: age, kind: value}]", f"run={tmp_path / 'run'}", "--json")
    assert said.code == 0 and json.loads(said.out)["widths"] == {}


def test_a_wrong_flag_is_a_usage_error(autodim):
    said = autodim("search", "planted", "--dryrun")
    assert said.code == 2 and said.out == "" and "--dry-run" in said.err and "Traceback" not in said.err


def test_all_problems_of_a_config_are_told_at_once(autodim, config):
    said = autodim("search", config, "modle.width=3", "prune.budget.share=2", "retrain.mode=hot")
    assert said.code == 2 and all(word in said.err for word in ("modle", "share", "hot"))


def test_dry_run_prints_the_plan_and_writes_nothing(autodim, config, run):
    folder = config.parent / "run"
    said = autodim("search", config, "--dry-run")
    assert said.code == 0 and not folder.exists()
    assert re.search(r"rows +train 1,[78]\d\d, valid [56]\d\d, test [56]\d\d", said.out)
    # user 41, item 31, place 4 and the tags, each with its row for unseen ids; width 8
    ids = int(re.search(r"slots, ids +4, (\d+)", said.out)[1])
    assert re.search(rf"embedding params +{8 * ids} at the uniform width; dense [\d,]+", said.out)
    assert re.search(r"memory +[\d.]+ MiB with optimizer state", said.out)
    assert re.search(rf"budget +{int(0.4 * 8 * ids)} params", said.out)
    assert re.search(r"time +at most [\d.]+ min", said.out)
    before = contents(run)
    found = json.loads(autodim("search", run, "--dry-run", "--json").out)
    assert contents(run) == before
    assert found["ids"] == ids and found["embedding_params"] == 8 * ids and found["seconds_at_most"] > 0
    assert found["bytes_with_optimizer_state"] > 4 * 3 * 8 * ids


@pytest.mark.parametrize(
    "words",
    [
        ["search", "RUN", "--json"],
        ["evaluate", "RUN", "--json"],
        ["search", "RUN", "--dry-run", "--json"],
        ["ls", "--json"],
        ["show", "CONFIG", "--json"],
        ["show", "sseds", "--json"],
        ["show", "CONFIG", "--origins", "--json"],
        ["export", "RUN", "--format", "json"],
    ],
    ids=" ".join,
)
def test_json_is_all_that_stdout_gets(words, autodim, config, run):
    said = autodim(*({"RUN": run, "CONFIG": config}.get(w, w) for w in words))
    assert said.code == 0 and said.err == ""
    assert json.loads(said.out)


def test_what_torchrec_refuses_is_said_on_stderr_and_in_the_file(autodim, run):
    said = autodim("export", run, "--format", "torchrec")
    problems = json.loads(said.out)["problems"]
    assert said.code == 0 and problems and "prune.multiple_of=4" in problems[0]
    assert said.err.splitlines() == [f"torchrec: {problem}" for problem in problems]


def test_search_says_results_on_stdout_and_everything_else_on_stderr(autodim, run):
    said = autodim("search", run)
    assert said.code == 0
    assert said.err.count("up to date") == 5 and f"autodim export {run}" in said.err
    assert "user" in said.out and "up to date" not in said.out and "next" not in said.out
    found = json.loads(autodim("search", run, "--json").out)
    assert found["run"] == str(run) and list(found["widths"]) == ["user", "item", "place", "tags"]
    assert found["budget"]["spent"] <= found["budget"]["asked"]
    assert [m["name"] for m in found["models"]] == ["uniform", "cut", "retrained"]


def test_the_road_stage_by_stage_ends_where_search_does(autodim, config, run, tmp_path):
    folder = tmp_path / "run"
    for stage in ("prepare", "pretrain", "prune", "retrain", "evaluate"):
        said = autodim(stage, config, f"run={folder}", "--quiet")
        assert said.code == 0, said
    for name in ("metrics.jsonl", "retrain/model/network.safetensors"):
        assert (folder / name).read_bytes() == (run / name).read_bytes()


def test_export_speaks_every_format(autodim, run, tmp_path):
    widths = autodim("export", run).out
    allocation = Allocation.from_yaml(widths)
    assert widths == (run / "widths.yaml").read_text() == allocation.to_yaml()
    assert json.loads(autodim("export", run, "--format", "json").out)["widths"] == allocation.widths
    lines = csv.DictReader(io.StringIO(autodim("export", run, "--format", "csv").out))
    assert {line["slot"]: int(line["width"]) for line in lines} == allocation.widths
    specs = json.loads(autodim("export", run, "--format", "torchrec").out)
    assert {t["name"]: t["embedding_dim"] for t in specs["tables"]} == {k: w for k, w in allocation.widths.items() if w}
    weights = tmp_path / "new folder" / "weights.safetensors"
    for name, kind in (("widths.yaml", "widths"), ("widths.csv", "csv")):
        out = tmp_path / "new folder" / name
        said = autodim("export", run, "--format", kind, "--out", out)
        assert said == (0, "", f"{out}\n") and out.read_text() == autodim("export", run, "--format", kind).out
    said = autodim("export", run, "--format", "safetensors", "--out", weights)
    assert said.code == 0 and said.out == ""
    with safe_open(weights, "pt") as file:
        shapes = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys() if k.startswith("tables/")}  # noqa: SIM118
    expected = {e.table: (e.rows, e.width) for e in allocation.entries if e.width}
    assert shapes == {f"tables/{table}": shape for table, shape in expected.items()}


def test_predict_reads_and_writes_csv_and_parquet(autodim, run, tmp_path):
    frame = tiny_frame(40, seed=7).drop(columns="click")
    rows = {"csv": tmp_path / "rows.csv", "parquet": tmp_path / "rows.parquet"}
    frame.to_csv(rows["csv"], index=False)
    frame.to_parquet(rows["parquet"], index=False)
    said = autodim("predict", run, rows["csv"])
    assert said.code == 0 and said.err == ""
    printed = pd.read_csv(io.StringIO(said.out))
    assert list(printed.columns) == ["click"] and len(printed) == 40 and printed["click"].between(0, 1).all()
    for kind, path in rows.items():
        for suffix in ("csv", "parquet"):
            out = tmp_path / f"from_{kind}.{suffix}"
            said = autodim("predict", run, path, "--out", out)
            assert said == (0, "", f"{out}: 40 rows\n")
            found = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
            pd.testing.assert_frame_equal(found, printed, check_dtype=False, rtol=1e-6)
    uniform = pd.read_csv(io.StringIO(autodim("predict", run, rows["csv"], "--model", "uniform").out))
    assert (uniform["click"] - printed["click"]).abs().max() > 1e-4


def test_predict_leaves_bad_rows_out_on_request_and_says_whose_the_scores_are(autodim, run, tmp_path):
    path = tmp_path / "rows.csv"
    tiny_frame(10, seed=7).drop(columns="click").to_csv(path, index=False)
    whole = pd.read_csv(io.StringIO(autodim("predict", run, path).out))
    lines = path.read_text().splitlines()
    lines[3:3] = ["too,few", "", "a,b,c,d,no-number"]  # lines 4 to 6
    path.write_text("\n".join(lines) + "\n")
    said = autodim("predict", run, path)
    assert said.code == 3 and "raise --max-bad-rows" in said.err
    assert autodim("predict", run, path, "--max-bad-rows", 1).code == 3
    said = autodim("predict", run, path, "--max-bad-rows", 2)
    assert said.code == 0 and "2 row(s) cannot be read" in said.err and "line 4" in said.err
    found = pd.read_csv(io.StringIO(said.out))
    assert found["line"].tolist() == [2, 3, *range(7, 15)]
    assert found["click"].tolist() == pytest.approx(whole["click"].tolist(), rel=1e-6)


def test_verify_names_what_is_damaged(autodim, config, tmp_path):
    folder = tmp_path / "run"
    assert autodim("prepare", config, f"run={folder}", "--quiet").code == 0
    said = autodim("verify", folder)
    assert said == (0, f"{folder}: 2 sealed folders, all as written\n", "")
    with open(folder / "data" / "log" / "counts.bin", "r+b") as file:
        file.write(b"\xff")
    said = autodim("verify", folder)
    assert said.code == 5 and is_one_message(said) and "counts.bin" in said.err


def test_ls_cp_show(autodim, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "\nmodels (" in autodim("ls").out
    assert autodim("cp", "template", "my.yaml") == (0, "my.yaml\n", "next: autodim search my.yaml --dry-run\n")
    said = autodim("cp", "template", "my.yaml")
    assert said.code == 2 and is_one_message(said) and "--force" in said.err
    text = Path("my.yaml").read_text()
    number = 1 + next(i for i, line in enumerate(text.splitlines()) if line.startswith("seed:"))
    told = autodim("show", "my.yaml", "model.width=4", "--origins").out.splitlines()
    origin = {line.split(":")[0]: line for line in told}
    assert f"my.yaml:{number}" in origin["seed"]
    assert re.search(r"model\.width: 4 +# override", origin["model.width"])
    assert re.search(r"# default", origin["retrain.patience"])
    shown = yaml.safe_load(autodim("show", "my.yaml", "model.width=4").out)
    assert shown["model"]["width"] == 4 and shown["retrain"]["patience"] == 4


def test_a_folder_in_use_is_refused_with_who_holds_it(autodim, config, tmp_path):
    code = (
        "import sys; from pathlib import Path; from autodim.artifact import Lock; "
        f"lock = Lock(Path({str(tmp_path)!r})); print('held', flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert owner.stdout.readline() == b"held\n"
        for stage in ("search", "prepare"):
            said = autodim(stage, config, f"run={tmp_path}", "--quiet")
            assert said.code == 5 and is_one_message(said)
            assert f"process {owner.pid} on {os.uname().nodename}" in said.err and "run=PATH" in said.err
    finally:
        owner.communicate()
    # the kernel frees it with its owner
    assert autodim("prepare", config, f"run={tmp_path}", "--quiet").code == 0


def child(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_python_m_autodim_is_the_command():
    said = child("-m", "autodim", "ls", "models", "--json")
    assert said.returncode == 0 and len(json.loads(said.stdout)["models"]) >= 7
    said = child("-m", "autodim", "search", "movelens")
    assert (said.returncode, said.stdout) == (2, "") and said.stderr.startswith("error: ")
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["search", "--help"], ["ls"], ["show", "planted"], ["search", "movelens"]], ids=" ".join
)
def test_nothing_slow_is_loaded_before_there_is_work(words):
    code = (
        "import sys, autodim.cli\n"
        f"sys.argv = ['autodim', *{words!r}]\n"
        "try:\n    autodim.cli.main() if sys.argv[1:] else None\nexcept SystemExit:\n    pass\n"
        "slow = {'torch', 'pyarrow', 'pandas', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {slow}' if slow else 0)"
    )
    said = child("-c", code)
    assert said.returncode == 0, said.stderr
