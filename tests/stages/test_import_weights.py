"""A checkpoint in the place of the pretraining: the very model, or every reason why not."""

import pytest
import torch
from conftest import tiny_config, tiny_frame

from autodim import artifact
from autodim.errors import ConfigError, RunError
from autodim.stages.export import write_weights
from autodim.stages.import_weights import read_state
from autodim.stages.model_folder import load_network
from autodim.stages.prepare import open_log
from autodim.stages.search import search
from autodim.training.progress import Progress

QUIET = Progress("quiet")
STAGES = ("prepare", "pretrain")


@pytest.fixture(scope="module")
def run(tiny_log, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "run"
    return search(tiny_config(tiny_log, folder, "pretrain.epochs=1"), QUIET, STAGES)


def state(run):
    """The run's model as somebody else would have saved it: one tensor for user and item, other names."""
    network, _ = load_network(run.stage("pretrain") / "model")
    read = {t.name: network.tables.read(t.name) for t in network.tables.layout.tables}
    found = {"ids.weight": torch.cat([read["user"]["weight"], read["item"]["weight"]])}
    found |= {f"{n}.weight": read[n]["weight"].clone() for n in ("place", "tags")}
    found |= {f"first.{n}": r["linear"].clone() for n, r in read.items()}
    return found | {f"net.{k}": v for k, v in network.model.state_dict().items()}


MAP = """
tables:
  user: {tensor: ids.weight, rows: [0, 41]}
  item: {tensor: ids.weight, rows: [41, 72]}
  place: place.weight
  tags: tags.weight
linear: {user: first.user, item: first.item, place: first.place, tags: first.tags}
dense: net.
"""


def imported(log, folder, tensors, text, *more):
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, folder / "model.pt")
    (folder / "map.yaml").write_text(text)
    return tiny_config(
        log,
        folder / "run",
        f"pretrain.weights={folder / 'model.pt'}",
        f"pretrain.weights_map={folder / 'map.yaml'}",
        *more,
    )


def test_it_is_the_same_model_to_the_bit_and_goes_down_the_road(run, tiny_log, tmp_path):
    config = imported(
        tiny_log, tmp_path, {"state_dict": state(run)}, MAP, "retrain.mode=none", "prune.strategy=spectral"
    )
    done = search(config, QUIET)
    mine, theirs = (load_network(r.stage("pretrain") / "model")[0].state() for r in (done, run))
    assert all(torch.equal(mine[k], v) for k, v in theirs.items())
    results = artifact.read_json(done.folder / "evaluate" / "results.json")["models"]
    assert [m["steps"] for m in results] == [0, 0, 0] and (done.folder / "report.html").is_file()
    # another file under the same name is another model
    other = state(run)
    other["place.weight"] += 1
    torch.save(other, tmp_path / "model.pt")
    again = load_network(search(config, QUIET, STAGES).stage("pretrain") / "model")[0]
    assert not torch.equal(again.tables.read("place")["weight"], mine_place(mine, done))


def mine_place(_, done):
    return load_network(next((done.folder / "previous").glob("pretrain*")) / "model")[0].tables.read("place")["weight"]


def test_our_own_export_needs_no_map(run, tiny_log, tmp_path):
    overrides = ["prune.strategy=uniform", "prune.budget={share: 1.0}", "retrain.mode=cold", "retrain.epochs=1"]
    first = search(tiny_config(tiny_log, tmp_path / "a", "pretrain.epochs=1", *overrides), QUIET)
    write_weights(first.folder, tmp_path / "small.safetensors")
    config = tiny_config(tiny_log, tmp_path / "b", f"pretrain.weights={tmp_path / 'small.safetensors'}")
    second = search(config, QUIET, STAGES)
    one, two = (load_network(f / "model")[0].state() for f in (first.stage("retrain"), second.stage("pretrain")))
    assert all(torch.equal(two[k], v) for k, v in one.items())
    network, _ = load_network(run.stage("pretrain") / "model")
    torch.save(network.state_dict(), tmp_path / "plain.pt")
    with pytest.raises(ConfigError, match=r"weights_map: missing; .*plain\.pt was not written by autodim"):
        search(tiny_config(tiny_log, tmp_path / "c", f"pretrain.weights={tmp_path / 'plain.pt'}"), QUIET, STAGES)


def test_row_numbers_of_the_log_itself(tmp_path):
    frame = tiny_frame()
    for name in ("user", "item", "place"):
        frame[name] = frame[name].str[1:].astype(int)
    frame["tags"] = frame["tags"].str.replace("t", "", regex=False)
    frame.to_csv(tmp_path / "log.csv", index=False)
    sizes = {"user": 50, "item": 30, "place": 3, "tags": 5}
    wide = {f"{n}.w": torch.arange(k * 8.0).reshape(k, 8) for n, k in sizes.items()}
    text = "ids: integers\ndense: net.\ntables:\n" + "".join(f"  {n}: {n}.w\n" for n in sizes)
    probe = search(tiny_config(tmp_path / "log.csv", tmp_path / "probe", "pretrain.epochs=1"), QUIET, STAGES)
    dense = {f"net.{k}": v for k, v in load_network(probe.stage("pretrain") / "model")[0].model.state_dict().items()}
    done = search(imported(tmp_path / "log.csv", tmp_path, wide | dense, text), QUIET, STAGES)
    tables = load_network(done.stage("pretrain") / "model")[0].tables
    values = open_log(done).vocabulary("user").values.to_pylist()
    weight = tables.read("user")["weight"]
    for row, value in enumerate(values, start=1):
        assert torch.equal(weight[row], wide["user.w"][int(value)])
    torch.testing.assert_close(weight[0], weight[1:].mean(0))
    assert not tables.read("user")["linear"].any()
    short = wide | dense | {"user.w": wide["user.w"][:20]}
    with pytest.raises(ConfigError, match=r"user\.w has 20 rows there, but the log needs row 39"):
        search(imported(tmp_path / "log.csv", tmp_path / "short", short, text), QUIET, STAGES)


def test_everything_that_does_not_fit_is_told_at_once(run, tiny_log, tmp_path):
    tensors = state(run)
    tensors["place.weight"] = tensors["place.weight"][:, :5]
    tensors["tags.weight"][0, 0] = torch.nan
    del tensors[
        "net.deep.out.weight" if "net.deep.out.weight" in tensors else next(k for k in tensors if k[:4] == "net.")
    ]
    with pytest.raises(ConfigError) as told:
        search(imported(tiny_log, tmp_path, tensors, MAP.replace("first.user", "first.usr")), QUIET, STAGES)
    said = str(told.value)
    for part in ("place.weight is (4, 5), expected rows x 8", "not finite", "no tensor 'first.usr'", "dense: "):
        assert part in said, said
    bad = MAP.replace("place: place.weight", "plaice: x").replace("[41, 72]", "[72, 41]") + "ids: ours\nmore: 1\n"
    with pytest.raises(ConfigError) as told:
        search(imported(tiny_log, tmp_path / "b", tensors, bad), QUIET, STAGES)
    for part in (
        "no table 'plaice'; did you mean",
        "no tensor for place",
        "rows: found [72, 41]",
        "ids: found 'ours'",
        "'more'",
    ):
        assert part in str(told.value), told.value


def test_a_file_with_code_in_it_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(RunError, match="not a state_dict"):
        read_state(tmp_path / "evil.pt")
    assert not (tmp_path / "touched").exists()
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(RunError, match="not a state_dict"):
        read_state(tmp_path / "text.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(RunError, match="found list"):
        read_state(tmp_path / "list.pt")
