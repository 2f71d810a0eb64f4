"""Online continuation: old ids keep their numbers, growing changes no prediction, state is kept, the chain goes on."""

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import torch
from conftest import tiny_config, tiny_frame

from autodim import artifact
from autodim.config.reader import load_config
from autodim.data.frame import encode_rows
from autodim.data.text import coded
from autodim.data.vocabulary import Counter
from autodim.errors import ConfigError, DataError, RunError
from autodim.stages import online
from autodim.stages.model_folder import load_network
from autodim.stages.online import continue_run, grown
from autodim.stages.predict import open_run, predict
from autodim.stages.prepare import open_log
from autodim.stages.search import search
from autodim.training.checkpoints import load_state
from autodim.training.evaluation import predict as logits
from autodim.training.progress import Progress

QUIET, CPU = Progress("quiet"), torch.device("cpu")


@pytest.fixture(scope="module")
def done(tiny_log, tmp_path_factory):
    """A run whose optimizer state is kept, and new rows with ids that it never met."""
    folder = tmp_path_factory.mktemp("online")
    keep = ("pretrain.keep_state=true", "retrain.keep_state=true", "pretrain.epochs=2", "data.min_count=2")
    search(tiny_config(tiny_log, folder / "run", *keep), QUIET)
    frame = tiny_frame(1200, seed=1)
    frame.loc[::3, "user"] = frame.loc[::3, "user"] + "new"
    frame.loc[5, "item"] = "once"  # rarer than min_count
    frame.to_csv(folder / "new.csv", index=False)
    return folder


def config_of(folder, out, *overrides):
    return load_config(folder / "run" / "config.yaml", [f"run={out}", *overrides]).config


def continued(folder, out, *overrides, which="small", data="new.csv"):
    return continue_run(folder / "run", config_of(folder, out, *overrides), folder / data, which, QUIET)


def test_vocabularies_grow_behind_the_old_ids():
    def counter(values):
        made = Counter()
        made.add(coded(pa.array(values)))
        return made

    old = counter(["a", "a", "b", None]).vocabulary()
    new = counter(["c", "c", "b", "d", "c", None, None]).extended(old, min_count=2)
    assert new.values.to_pylist() == [*old.values.to_pylist(), "c"]
    assert dict(zip(new.values.to_pylist(), new.counts[1:].tolist(), strict=True)) == {"a": 0, "b": 1, None: 2, "c": 3}
    assert new.counts[0] == 1 and new.missing_id == old.missing_id


@pytest.mark.parametrize("which", ["small", "uniform"])
def test_a_run_goes_on_with_new_ids_and_is_a_run_again(done, tmp_path, which):
    result = continued(done, tmp_path / "next", which=which)
    assert result["kept_state"] and 10 < result["new_ids"]["user"] <= 40 and result["new_ids"]["item"] == 0
    stage = {"small": "retrain", "uniform": "pretrain"}[which]
    old, new = open_run(done / "run"), open_run(tmp_path / "next")
    before, about = load_network(old.stage(stage) / "model", CPU)
    # growing changes no prediction, on old rows and on new ones
    rows = pd.read_csv(done / "new.csv")
    larger = grown(before, about, open_log(new))
    old_columns, new_columns = encode_rows(rows, open_log(old)), encode_rows(rows, open_log(new))
    assert (new_columns.ids > old_columns.ids).any()  # new ids are read
    torch.testing.assert_close(logits(larger, new_columns, CPU), logits(before, old_columns, CPU))
    # ids that were there keep their numbers, and rows that the new data never reads stay to the bit
    known = old_columns.ids > 0
    assert torch.equal(new_columns.ids[known], old_columns.ids[known])
    # it is a run again: it predicts, with widths of the grown tables, and can be continued
    assert len(predict(tmp_path / "next", rows, CPU, which)) == len(rows)
    if which == "small":
        again = continue_run(
            tmp_path / "next",
            load_config(tmp_path / "next" / "config.yaml", [f"run={tmp_path / 'third'}"]).config,
            done / "new.csv",
            "small",
            QUIET,
        )
        assert set(again["new_ids"].values()) == {0}


def test_the_optimizers_state_is_that_of_the_best_evaluation_and_grows_with_the_tables(done, tmp_path):
    from autodim.optim.build import build_rules
    from autodim.stages.online import _Begin

    continued(done, tmp_path / "next", "retrain.epochs=1")
    run, new = open_run(done / "run"), open_run(tmp_path / "next")
    network, about = load_network(run.stage("retrain") / "model", CPU)
    tensors, rest = load_state(run.stage("retrain") / "optimizer")
    larger = grown(network, about, open_log(new))
    rules = build_rules(run.config.retrain.optimizer, larger)
    _Begin(network, larger, (tensors, rest))(rules.optimizers)
    tables, dense = rules.optimizers
    state = [tables.state[p] for p in larger.tables.table_parameters()]
    assert {s["step"] for s in state} == {rest[0]["state"]["0"]["step"]} and state[0]["step"] > 0
    for number, (old_group, new_group) in enumerate(zip(network.tables.groups, larger.tables.groups, strict=True)):
        if old_group.weight is None:
            continue
        kept = tables.state[new_group.weight]["exp_avg_sq"]
        index = network.tables.table_parameters().index(old_group.weight) if number == 0 else None
        for a, b in zip(old_group.blocks, new_group.blocks, strict=True):
            part = kept[new_group.rows_of(b)]
            assert part.shape[0] == b.rows and not part[a.rows :].any()
            if index is not None:
                assert torch.equal(part[: a.rows], tensors[f"optimizer0/{index}/exp_avg_sq"][old_group.rows_of(a)])
    assert all("exp_avg" in dense.state[p] for p in larger.dense_parameters() if p.numel())


def test_another_rule_the_own_folder_and_another_model_are_refused(done, tmp_path):
    with pytest.raises(ConfigError, match="kept state has"):
        continued(done, tmp_path / "a", "retrain.optimizer.tables.name=adagrad")
    with pytest.raises(ConfigError, match="the run itself"):
        continued(done, done / "run")
    with pytest.raises(ConfigError, match="own model"):
        continued(done, tmp_path / "b", "model.width=4", "prune.budget.share=0.5")


def test_rows_that_are_not_whole_are_refused_before_training(done, tmp_path):
    pd.read_csv(done / "new.csv").drop(columns="item").to_csv(done / "less.csv", index=False)
    with pytest.raises(Exception, match="item"):
        continued(done, tmp_path / "c", data="less.csv")


def test_it_is_up_to_date_the_second_time(done, tmp_path):
    first = continued(done, tmp_path / "next", "retrain.epochs=1")
    weights = tmp_path / "next" / "retrain" / "model" / "network.safetensors"
    seen = weights.stat().st_mtime_ns
    assert continued(done, tmp_path / "next", "retrain.epochs=1") == first
    assert weights.stat().st_mtime_ns == seen
    assert artifact.read_json(tmp_path / "next" / "continue.json") == first


def test_a_run_without_kept_state_says_so_and_goes_on(tiny_log, tmp_path):
    search(tiny_config(tiny_log, tmp_path / "run", "pretrain.epochs=1", "retrain.epochs=1"), QUIET)
    tiny_frame(600, seed=2).to_csv(tmp_path / "new.csv", index=False)
    result = continued(tmp_path, tmp_path / "next")
    assert not result["kept_state"]
    with pytest.raises(RunError):
        continue_run(tmp_path / "next", config_of(tmp_path, tmp_path / "x"), tmp_path / "new.csv", "uniform", QUIET)


def test_a_continuation_never_takes_another_run_over(done, tiny_log, tmp_path):
    search(tiny_config(tiny_log, tmp_path / "other"), QUIET, ("prepare",))
    before = (tmp_path / "other" / "config.yaml").read_text()
    with pytest.raises(ConfigError, match="is a run of its own"):
        continued(done, tmp_path / "other")
    assert (tmp_path / "other" / "config.yaml").read_text() == before
    artifact.write_json(tmp_path / "other" / "continued_from.json", {"from": "/another/run"})
    with pytest.raises(ConfigError, match="is the continuation of /another/run"):
        continued(done, tmp_path / "other")


def test_bad_rows_are_left_out_of_a_continuation_on_request(done, tmp_path):
    text = (done / "new.csv").read_text()
    (done / "broken.csv").write_text(text + "only,three,fields\n")
    with pytest.raises(DataError, match="max_bad_rows"):
        continued(done, tmp_path / "next", data="broken.csv")
    result = continued(done, tmp_path / "next", "data.max_bad_rows=1", data="broken.csv")
    assert sum(result["rows"].values()) == 1200


def scores(folder, done, which="small"):
    return predict(folder, pd.read_csv(done / "new.csv"), CPU, which)


def test_a_failed_continuation_leaves_the_earlier_one_in_service(done, tmp_path, monkeypatch):
    out = tmp_path / "next"
    continued(done, out, "retrain.epochs=1")
    before, record = scores(out, done), artifact.read_json(out / "continue.json")
    tiny_frame(700, seed=5).to_csv(done / "later.csv", index=False)

    def broken(*words, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(online, "train_network", broken)
        continued(done, out, "retrain.epochs=1", data="later.csv")
    pd.testing.assert_frame_equal(scores(out, done), before)
    assert artifact.read_json(out / "continue.json") == record and open_run(out).config.data.path.endswith("new.csv")
    with monkeypatch.context() as patch:  # what was prepared before the failure is not prepared again
        patch.setattr(online, "encode", broken)
        later = continued(done, out, "retrain.epochs=1", data="later.csv")
    assert sum(later["rows"].values()) == 700 and not (out / "next").exists()
    assert not scores(out, done).equals(before) and open_run(out).config.data.path.endswith("later.csv")
    assert artifact.read_json(out / "continue.json") == later
    assert {p.name for p in (out / "previous").iterdir()} == {"data-1", "retrain-1"}
    assert continued(done, out, "retrain.epochs=1", data="later.csv") == later


def test_other_settings_and_the_other_model_hide_nothing(done, tmp_path):
    out = tmp_path / "next"
    continued(done, out, "retrain.epochs=1")
    small = scores(out, done)
    continued(done, out, "pretrain.epochs=1", which="uniform")  # beside it: one log, two models
    pd.testing.assert_frame_equal(scores(out, done), small)
    uniform = scores(out, done, "uniform")
    continued(done, out, "retrain.epochs=2")
    assert {p.name for p in (out / "previous").iterdir()} == {"retrain-1"}  # the log is shared
    assert not scores(out, done).equals(small)
    pd.testing.assert_frame_equal(scores(out, done, "uniform"), uniform)


def test_a_take_over_that_is_cut_short_is_finished_by_the_next_command(done, tmp_path, monkeypatch):
    out = tmp_path / "next"
    continued(done, out, "retrain.epochs=1")
    tiny_frame(700, seed=5).to_csv(done / "later.csv", index=False)
    rename, replace = os.rename, os.replace
    for moves in range(6):
        left = [moves]

        def limited(move, left=left):
            def wrapped(source, target):
                if Path(source).parent.name == "next" or Path(target).parent.name == "previous":
                    if not left[0]:
                        raise KeyboardInterrupt
                    left[0] -= 1
                move(source, target)

            return wrapped

        data = ("later.csv", "new.csv")[moves % 2]
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "rename", limited(rename))
            patch.setattr(os, "replace", limited(replace))
            continued(done, out, "retrain.epochs=1", data=data)
        log, model = open_run(out).done("prepare"), open_run(out).done("retrain")
        assert model is None or log is not None
        result = continued(done, out, "retrain.epochs=1", data=data)
        assert sum(result["rows"].values()) == {"later.csv": 700, "new.csv": 1200}[data]
        assert not (out / "next").exists() and len(scores(out, done)) == 1200
