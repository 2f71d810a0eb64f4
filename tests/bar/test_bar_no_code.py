"""No code from data: hostile files are refused, or are data; nothing in them runs, and nothing outside is touched."""

from __future__ import annotations

import ast
import gzip
import json
import os
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import copy_of_finished

import autodim
from autodim import artifact
from autodim.config.reader import load_config
from autodim.config.schema import DataConfig
from autodim.data import csvfile, csvlines
from autodim.data.encode import encode
from autodim.data.manifest import Manifest
from autodim.dimension.widths_yaml import read as read_widths
from autodim.errors import AutodimError, ConfigError, DataError, RunError
from autodim.stages.model_folder import load_network
from autodim.stages.predict import predict
from autodim.training.checkpoints import load_tensors

SOURCES = sorted(Path(autodim.__file__).parent.rglob("*.py"))


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, flag: Path):
        self.flag = flag

    def __reduce__(self):
        return os.mkdir, (str(self.flag),)


TAGS = [
    "!!python/object/apply:os.mkdir [{flag}]",
    "!!python/object/new:os.mkdir [[{flag}]]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object:pathlib.Path {{}}",
    "!!python/tuple [1, 2]",
    "!<tag:yaml.org,2002:python/object/apply:os.mkdir> [{flag}]",
    "!include /etc/passwd",
]


@pytest.mark.parametrize("tag", TAGS)
def test_tags_of_yaml_are_refused_everywhere(tmp_path, tag):
    flag = tmp_path / "flag"
    value = tag.format(flag=flag)
    for text in (f"data: {value}\n", f"seed: {value}\n", f"{value}\n"):
        with pytest.raises(ConfigError):
            load_config(text, (), "hostile")
        with pytest.raises(ConfigError):
            read_widths(text, "hostile")
    with pytest.raises(ConfigError):
        read_widths(f"version: 1\nwidths:\n  user: {value}\n", "hostile")
    assert not flag.exists()


def test_pickles_in_the_place_of_weights_are_refused_and_never_run(tmp_path):
    run = copy_of_finished(tmp_path / "run")
    flag = tmp_path / "flag"
    path = run / "retrain" / "model" / "network.safetensors"
    torch.save({"weight": Bomb(flag)}, tmp_path / "x.pt")
    np.save(tmp_path / "x.npy", np.array([Bomb(flag)], dtype=object), allow_pickle=True)
    for data in (
        pickle.dumps(Bomb(flag)),
        (tmp_path / "x.pt").read_bytes(),
        (tmp_path / "x.npy").read_bytes(),
    ):
        path.write_bytes(data)
        artifact.seal_files(path.parent, [path.name])  # even where the sums agree
        with pytest.raises(RunError, match="safetensors"):
            load_network(path.parent)
    assert not flag.exists()


def header(size: int, text: bytes, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", size) + text + rest


def tensors(**entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return header(len(text), text, bytes(64))


ABSURD = {
    "endless header": header(2**63, b"{}"),
    "large header": header(2**40, b"{}"),
    "empty file": b"",
    "no header": b"\x01",
    "no json": header(4, b"abcd"),
    "deep json": header(200_000, b"[" * 200_000),
    "beyond the end": tensors(x={"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}),
    "overlapping": tensors(
        x={"dtype": "F32", "shape": [8], "data_offsets": [0, 32]},
        y={"dtype": "F32", "shape": [8], "data_offsets": [16, 48]},
    ),
    "backwards": tensors(x={"dtype": "F32", "shape": [8], "data_offsets": [32, 0]}),
    "overflowing": tensors(x={"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 64]}),
    "negative": tensors(x={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}),
    "unknown type": tensors(x={"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]}),
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_headers_are_refused_without_taking_memory(tmp_path, name):
    path = tmp_path / "x.safetensors"
    path.write_bytes(ABSURD[name])
    tracemalloc.start()
    with pytest.raises(RunError, match=r"x\.safetensors"):
        load_tensors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20


@pytest.mark.parametrize("name", ["../../secret.parquet", "/etc/passwd", "a/../../../x", "x\0y"])
def test_files_that_a_manifest_names_lie_in_its_folder(tmp_path, name):
    run = copy_of_finished(tmp_path / "run")
    path = run / "data" / "log" / "manifest.json"
    found = json.loads(path.read_text())
    found["tables"][0]["file"] = name
    path.write_text(json.dumps(found))
    artifact.seal_files(path.parent, [path.name])
    with pytest.raises(RunError, match="manifest"):
        Manifest.load(path.parent)


HOSTILE = [
    "../x",
    "a\0b",
    "n" * 300,
    "\x1b[31mred",
    "=cmd|'/c calc'!A0",
    "${HOME}",
    "`id`",
    "<script>alert(1)</script>",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_of_fields_are_only_names(tmp_path, name):
    """Either refused in words, or files are named by position and the text arrives unharmed and escaped."""
    inside = tmp_path / "inside"
    inside.mkdir()
    path = inside / "log.csv"
    path.write_text(f'"{name}",click\n' + "".join(f"v{i % 3},{i % 2}\n" for i in range(30)))
    try:
        data = DataConfig.model_validate({"path": str(path), "labels": [{"name": "click"}], "slots": [{"name": name}]})
        encode(data, inside / "out")
    except (AutodimError, ValueError) as error:
        assert "\x1b" not in str(error)
        assert "\0" not in str(error)
    else:
        assert sorted(p.name for p in (inside / "out").iterdir()) == sorted(
            ["counts.bin", "manifest.json", "test", "train", "valid", "vocab_0.parquet"]
        )
        assert Manifest.load(inside / "out").slots[0].name == name
    assert [p.name for p in tmp_path.iterdir()] == ["inside"]


def test_a_gzip_bomb_is_read_in_bounded_memory_and_refused(tmp_path, monkeypatch):
    """100 MB of one line in 100 kB."""
    monkeypatch.setattr(csvfile, "BLOCK_BYTES", 1 << 20)
    monkeypatch.setattr(csvlines, "MAX_LINE", 1 << 22)
    path = tmp_path / "log.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"user,click\n")
        for _ in range(100):
            file.write(b"a" * (1 << 20))
    data = DataConfig.model_validate({"path": str(path), "labels": [{"name": "click"}], "slots": [{"name": "user"}]})
    tracemalloc.start()
    with pytest.raises(DataError, match="line"):
        encode(data, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20


def test_values_of_new_rows_are_only_values(tmp_path):
    run = copy_of_finished(tmp_path / "run")
    rows = tmp_path / "rows.csv"
    rows.write_text("user,item,place,tags,age\n=cmd|x,../../x,__import__('os').system('id'),${HOME}|`id`,30\n")
    assert len(predict(run, rows, torch.device("cpu"))) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.csv", "run"]


def dangerous(node: ast.AST) -> bool:
    """A call or an import that can run what it reads."""
    if isinstance(node, ast.Import):
        return any(a.name.split(".")[0] in MODULES for a in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in MODULES
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
    if name == "torch.load":
        return keywords.get("weights_only") != "True"
    if name == "yaml.load":
        return "Loader" not in keywords
    return (
        name in CALLS or keywords.get("allow_pickle", "False") != "False" or keywords.get("shell", "False") != "False"
    )


MODULES = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
CALLS = {"eval", "exec", "__import__", "os.system", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle"}
CALLS |= {"importlib.import_module", "import_module"}


def test_the_sources_hold_no_way_to_run_data():
    """No eval, exec, pickle, shell, or import by a name that is computed (but for the package's own table of names)."""
    found = []
    for path in SOURCES:
        nodes = ast.walk(ast.parse(path.read_text()))
        found += [f"{path}:{getattr(n, 'lineno', 0)}" for n in nodes if dangerous(n)]
    found = [place for place in found if not place.startswith(f"{Path(autodim.__file__)}:")]
    assert found == []
    assert len(SOURCES) > 200
    for text in ("import pickle", "eval('1')", "torch.load(x)", "yaml.load(x)", "np.load(x, allow_pickle=True)"):
        assert any(dangerous(n) for n in ast.walk(ast.parse(text))), text
