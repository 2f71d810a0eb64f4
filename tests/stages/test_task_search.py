"""The whole road of a search that serves several tasks: scores by task, the worst task, the report."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from autodim import artifact
from autodim.cli import app
from autodim.config.reader import load_config
from autodim.dimension.allocation import Allocation
from autodim.dimension.statistics import Statistics
from autodim.errors import ConfigError
from autodim.stages.model_folder import load_network
from autodim.stages.prepare import open_log
from autodim.stages.prune import cut_for, prune
from autodim.stages.refresh import refresh
from autodim.stages.report import report_data
from autodim.stages.score import score
from autodim.stages.scores import cached_score
from autodim.stages.search import search
from autodim.stages.session import Session
from autodim.training.progress import Progress

QUIET = Progress("quiet")
CPU = Session(torch.device("cpu"))


def frame(rows: int = 3000) -> pd.DataFrame:
    """`shop` moves only the rare buy, `user` and `item` only the click."""
    rng = np.random.default_rng(0)
    user, item, shop = rng.integers(0, 30, rows), rng.integers(0, 30, rows), rng.integers(0, 30, rows)
    return pd.DataFrame(
        {
            "user": [f"u{u}" for u in user],
            "item": [f"i{i}" for i in item],
            "shop": [f"s{s}" for s in shop],
            "click": (rng.random(rows) < 0.05 + 0.45 * (user % 2) + 0.45 * (item % 2)).astype(int),
            "buy": (rng.random(rows) < np.where(shop % 5 == 0, 0.14, 0.01)).astype(int),
            "seen": rng.integers(0, 2, rows),
        }
    )


def config(folder, **prune: object):
    path = folder / "log.csv"
    if not path.is_file():
        frame().to_csv(path, index=False)
    rates = {"tables": {"lr": 0.03}, "dense": {"lr": 0.01}}
    train = {"epochs": 3, "batch": 128, "evals_per_epoch": 1, "optimizer": rates}
    labels = ["click", "buy", {"name": "seen", "role": "auxiliary"}]
    return load_config(
        {
            "run": str(folder / "run"), "threads": 1,
            "data": {"path": str(path), "labels": labels, "slots": ["user", "item", "shop"],
                     "split": {"valid": 0.25, "test": 0.15}},
            "model": {"name": "mmoe", "width": 4, "init_std": 0.3,
                      "sharing": {"experts": 2, "expert_hidden": [8], "towers": [4]}},
            "pretrain": train, "retrain": {**train, "epochs": 1},
            "prune": {"budget": {"share": 0.6}, **prune},
        },
        source="test",
    ).config  # fmt: skip


WORST = {"strategy": "spectral_refit", "tasks": {"combine": "worst"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return search(config(tmp_path_factory.mktemp("worst"), **WORST), QUIET)


def test_the_scoring_pass_tells_the_tasks_apart(run):
    log = open_log(run)
    network, _ = load_network(run.stage("pretrain") / "model")
    found = score(network, log.part("valid"), CPU, tasks=log.tasks)
    for name in [n for n in found if n.startswith("task0/")]:
        plain = name.removeprefix("task0/")
        assert torch.equal(found[plain], found[name] + found[f"task1/{plain}"])
    assert not any(name.startswith("task2/") for name in found)  # auxiliary
    only = [log.tasks[0]]
    columns = log.part("valid")
    first = type(columns)(**{**vars(columns), "labels": columns.labels[:, :1]})
    alone = score(_First(network), first, CPU, tasks=only)
    assert not any(name.startswith("task") for name in alone)
    for name, tensor in alone.items():
        if f"task0/{name}" in found:
            assert torch.equal(tensor, found[f"task0/{name}"]), name


class _First:
    """A network's first task alone."""

    def __init__(self, network):
        self.network, self.tables = network, network.tables

    def logits(self, lookup, batch):
        return self.network.logits(lookup, batch)[:, :1]

    def __getattr__(self, name):
        return getattr(self.network, name)


def test_the_shares_say_what_each_slot_is_for(run):
    scores = artifact.read_json(run.folder / "prune" / "scores.json")
    assert scores["tasks"] == ["click", "buy"] and scores["measure"] == "spectral" and scores["combine"] == "worst"
    assert np.sum(list(scores["slots"].values()), 0) == pytest.approx([1, 1])
    click, buy = scores["slots"]["shop"]
    assert click < 0.1 and buy > 0.2
    assert all(0 <= lost < 1 for lost in scores["lost"])


def test_the_same_cut_comes_from_the_widths_file(run):
    log = open_log(run)
    network, _ = load_network(run.stage("pretrain") / "model")
    allocation = Allocation.from_yaml((run.folder / "widths.yaml").read_text())
    assert any(note.startswith("worst task") for note in allocation.notes)
    again = cut_for(run, network, allocation, log, CPU).state_dict()
    kept = load_network(run.stage("prune") / "model")[0].state_dict()
    assert all(torch.equal(again[name], kept[name]) for name in kept)


def test_report_and_show(run):
    html = (run.folder / "report.html").read_text()
    assert "What each task needs" in html and "Mean weight of each expert" in html and "worst task" in html
    data = report_data(run)
    assert set(data.tasks.courses) == {"pretrain", "retrain"}
    assert set(data.tasks.courses["pretrain"].losses) == {"click", "buy", "seen"}
    table = CliRunner().invoke(app, ["evaluate", str(run.folder), "--quiet"]).stdout
    models = artifact.read_json(run.folder / "evaluate" / "results.json")["models"]
    for t, name in enumerate(("click", "buy", "seen (auxiliary)")):
        assert len(re.findall(rf"{re.escape(name)} +[.\d]", table)) == len(models)
        assert all(f"{model['test'][t]['auc']:.4f}"[1:] in table for model in models)
    shown = CliRunner().invoke(app, ["show", str(run.folder)])
    assert shown.exit_code == 0 and "# which slots serve which task" in shown.stdout
    assert "the cut is predicted to lose" in shown.stdout
    found = json.loads(CliRunner().invoke(app, ["show", str(run.folder), "--json"]).stdout)
    assert found["tasks"]["slots"].keys() == {"user", "item", "shop"}


def test_weights_are_applied_to_the_cached_scores(run, tmp_path):
    log = open_log(run)
    network, _ = load_network(run.stage("pretrain") / "model")
    plain, _ = cached_score(run, network, log, CPU)
    assert isinstance(plain, Statistics) and list(plain.tasks) == ["click", "buy"]
    settings = run.config.prune.model_copy(
        update={"tasks": run.config.prune.tasks.model_copy(update={"weights": {"click": 0.0, "buy": 2.0}})}
    )
    changed = type(run)(run.folder, run.config.model_copy(update={"prune": settings}))
    folders = sorted(run.stage("pretrain").glob("scores-*"))
    found, _ = cached_score(changed, network, log, CPU)
    assert sorted(run.stage("pretrain").glob("scores-*")) == folders
    np.testing.assert_allclose(found.scores["shop"], 2 * plain.tasks["buy"].scores["shop"])


@pytest.mark.parametrize(
    ("prune", "words"),
    [
        ({"tasks": {"weights": {"bui": 2.0}}}, 'did you mean "buy"'),
        ({"tasks": {"weights": {"seen": 2.0}}}, "auxiliary"),
        ({"tasks": {"weights": {"click": 0.0, "buy": 0.0}}}, "0 for every main task"),
        ({"strategy": "magnitude", "tasks": {"combine": "worst"}}, "has no effect with prune.strategy: magnitude"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path, prune, words):
    with pytest.raises(ConfigError, match=words):
        config(tmp_path, **prune)


@pytest.mark.parametrize("strategy", ["spectral", "sseds"])
def test_blocks_of_rows_have_scores_by_task_too(run, tmp_path, strategy):
    blocks = {"slots": ["user", "shop"], "shares": [0.5], "by": "rows", "min_rows": 4}
    changed = config(tmp_path, strategy=strategy, tasks={"combine": "worst"}, blocks=blocks, min_dim=1)
    part = type(run)(tmp_path / "run", changed, {name: run.stage(name) for name in ("prepare", "pretrain")})
    log = open_log(run)
    allocation = prune(part, log, CPU)
    scores = artifact.read_json(part.stage("prune") / "scores.json")
    assert {name.split("[")[0] for name in scores["slots"]} == {"user", "item", "shop"} and len(scores["slots"]) == 5
    assert np.sum(list(scores["slots"].values()), 0) == pytest.approx([1, 1])
    assert all(0 <= lost < 1 for lost in scores["lost"]) and allocation.spent <= allocation.asked
    network, _ = load_network(run.stage("pretrain") / "model")
    tensors = score(network, log.part("valid"), CPU, spans={"user": ((0, 15), (15, 31))}, tasks=log.tasks)
    own = [n for n in tensors if n.startswith("task0/block.")]
    assert len(own) == 2 * 3
    for name in [*own, "task0/g/user[0:15]"]:
        plain = name.removeprefix("task0/")
        assert torch.equal(tensors[plain], tensors[name] + tensors[f"task1/{plain}"])
    halves = tensors["task1/g/user[0:15]"] + tensors["task1/g/user[15:31]"]
    torch.testing.assert_close(halves, tensors["task1/g/user"], rtol=1e-4, atol=1e-4)


def test_a_run_of_two_tasks_is_refreshed_by_their_sum(run, tmp_path):
    frame().iloc[::-1][:2000].to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(ConfigError, match="combine is worst"):
        refresh(run, tmp_path / "never", tmp_path / "new.csv", CPU)
    tasks = run.config.prune.tasks.model_copy(update={"combine": "sum", "weights": {"buy": 2.0}})
    settings = run.config.prune.model_copy(update={"tasks": tasks, "strategy": "spectral"})
    old = type(run)(run.folder, run.config.model_copy(update={"prune": settings}))
    found = refresh(old, tmp_path / "new", tmp_path / "new.csv", CPU, min_gain=0.0)
    network, _ = load_network(tmp_path / "new" / "prune" / "model")
    assert network.tables.layout.parameters == found.allocation.spent <= found.allocation.asked
