"""`init` notices a label that lies within another, and says how a config could say it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import yaml

from autodim.config import load_config
from autodim.data.infer import infer
from autodim.data.infer.nested import nested
from autodim.data.infer.target import Target


def log(folder, **labels):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": [f"u{k}" for k in rng.integers(0, 50, 2000)], **labels})
    frame.to_csv(folder / "log.csv", index=False)
    return str(folder / "log.csv")


def clicks():
    rng = np.random.default_rng(1)
    click = rng.random(2000) < 0.4
    return click.astype(int), (click & (rng.random(2000) < 0.3)).astype(int)


def test_bought_implies_clicked_is_a_comment_that_can_be_followed(tmp_path):
    click, buy = clicks()
    found = infer(log(tmp_path, click=click, buy=buy), ["click", "buy"])
    assert any("buy is 1 only where click is" in note for note in found.notes)
    comments = [line.strip().lstrip("# ") for line in found.text.splitlines() if line.strip().startswith("#")]
    assert f"all {buy.sum():,} sampled rows with buy = 1 have click = 1" in found.text
    ways = [line.split("}")[0] + "}" for line in comments if line.startswith("{name: buy")]
    assert len(ways) == 2
    config = yaml.safe_load(found.text)
    assert config["data"]["labels"] == ["click", "buy"] and config["model"]["name"] == "mmoe"  # as without it
    for way, model in zip(ways, (config["model"], {"name": "esmm", "width": config["model"]["width"]}), strict=True):
        data = {**config["data"], "labels": ["click", yaml.safe_load(way)]}
        said = load_config({**config, "data": data, "model": model}).config
        assert said.data.labels[1].where == "click" and said.model.name == model["name"]


def test_the_other_order_names_the_first_label(tmp_path):
    click, buy = clicks()
    text = infer(log(tmp_path, click=click, buy=buy), ["buy", "click"]).text
    assert ", click as the first label, and `model: {name: esmm}`" in text


def test_names_that_need_quotes_have_them_once(tmp_path):
    click, buy = clicks()
    text = infer(log(tmp_path, **{"my click": click, "buy: all": buy}), ["my click", "buy: all"]).text
    assert '{name: "buy: all", where: "my click"}' in text


def test_labels_that_are_not_nested_are_left_alone(tmp_path):
    click, buy = clicks()
    buy[np.flatnonzero(click == 0)[:1]] = 1  # one counterexample
    found = infer(log(tmp_path, click=click, buy=buy), ["click", "buy"])
    assert "where: click" not in found.text and not any("only where" in note for note in found.notes)


def target(name, *values):
    return Target(name, {"name": name}, "", np.array(values, np.float32))


def test_chance_equality_and_unknown_rows_are_no_containment():
    rng = np.random.default_rng(0)
    outer = (rng.random(500) < 0.9).astype(np.float32)
    few = np.zeros(500, np.float32)
    few[np.flatnonzero(outer)[:20]] = 1
    assert nested([target("a", *outer), target("b", *few)]) == []  # .9 ** 20 is no rarity
    many = np.zeros(500, np.float32)
    many[np.flatnonzero(outer)[:200]] = 1
    a, b = target("a", *outer), target("b", *many)
    assert nested([a, b]) == [(b, a)]
    assert nested([a, target("same", *outer)]) == []
    unknown = outer.copy()
    unknown[np.flatnonzero(many)[0]] = np.nan
    assert nested([target("a", *unknown), b]) == []


def test_the_narrowest_of_a_chain_is_named():
    rng = np.random.default_rng(0)
    view = rng.random(3000) < 0.5
    click = view & (rng.random(3000) < 0.5)
    buy = click & (rng.random(3000) < 0.5)
    view, click, buy = (target(n, *v) for n, v in (("view", view), ("click", click), ("buy", buy)))
    assert nested([view, click, buy]) == [(click, view), (buy, click)]
