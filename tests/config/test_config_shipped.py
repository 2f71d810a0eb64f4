"""The shipped configs load, and the catalogue holds exactly what the schema allows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autodim.config import catalogue, expand_path, load_config, to_yaml, walk
from autodim.config.presets import PRESETS
from autodim.errors import ConfigError

SHIPPED = catalogue.configs()
REPO = Path(__file__).resolve().parents[2]


def test_the_standard_logs_each_have_a_config() -> None:
    assert {
        "movielens", "movielens_genres_bag", "census_income", "frappe", "criteo_sample", "avazu_sample",
        "flights", "planted", "template", "movielens_two_labels", "census_multitask",
    } <= {entry.name for entry in SHIPPED}  # fmt: skip


@pytest.mark.parametrize("entry", SHIPPED, ids=lambda entry: entry.name)
def test_a_shipped_config_opens_with_its_command_and_is_right(entry: catalogue.Entry) -> None:
    assert entry.path is not None
    assert entry.path.read_text().startswith(f"# autodim search configs/{entry.name}.yaml\n#\n")
    config = load_config(entry.path).config
    assert entry.description == config.description
    assert 10 < len(entry.description) < 90
    assert config.run.startswith("runs/")
    assert load_config(to_yaml(config)).config == config


def test_runs_do_not_share_a_folder() -> None:
    runs = [load_config(entry.path).config.run for entry in SHIPPED if entry.path]
    assert len(set(runs)) == len(SHIPPED)


def test_every_commented_line_of_the_template_can_be_taken_in() -> None:
    """Uncommented one by one: no unknown key and no value of the wrong kind (it may contradict the line above)."""
    text = catalogue.find_config("configs/template.yaml").read_text().splitlines()
    tried = 0
    for i, line in enumerate(text):
        if match := re.match(r"( *)# ((?:- \{)?\w+: .*|slots: .*)", line):
            tried += 1
            changed = "\n".join([*text[:i], match[1] + match[2], *text[i + 1 :]])
            try:
                load_config(changed)
            except ConfigError as error:
                told = str(error)
                assert re.search(
                    "give exactly one|list them|set header: false|given twice|take out one of the two", told
                ), told
    assert tried > 15


def test_movielens_is_the_protocol_of_the_readme() -> None:
    config = load_config(catalogue.find_config("movielens")).config
    assert [slot.name for slot in config.data.slots] == [
        "user", "item", "gender", "age", "occupation", "zip", "zip3", "year", "genres",
    ]  # fmt: skip
    assert (config.data.split.valid, config.data.split.test) == (0.1, 0.2)
    assert (config.model.name, config.model.width, config.model.hidden) == ("deepfm", 16, (64, 32))


def test_census_reads_neither_its_labels_nor_their_sources() -> None:
    config = load_config(catalogue.find_config("census_income")).config
    columns = {slot.source for slot in config.data.slots}
    assert not columns & {
        "label", "income_50k", "label_never_married", "marital_stat", "instance_weight", "split", "mmoe_split",
    }  # fmt: skip
    assert [sum(slot.kind == kind for slot in config.data.slots) for kind in ("value", "categorical")] == [7, 32]


@pytest.mark.parametrize(
    "name", ["movielens", "movielens_genres_bag", "census_income", "frappe", "census_multitask", "movielens_two_labels"]
)
def test_the_columns_of_the_real_logs_exist(name: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    data = load_config(catalogue.find_config(name)).config.data
    folder = Path(os.environ.get("AUTODIM_DATA", REPO.parent / "shared" / "data"))
    assert data.path is not None and data.path.startswith("${AUTODIM_DATA}/")
    file = folder / data.path.removeprefix("${AUTODIM_DATA}/")
    if not file.is_file():
        pytest.skip(f"{file} is not here: set AUTODIM_DATA to the folder of the real data")
    columns = set(parquet.read_schema(file).names)
    used = {s.source for s in data.slots} | {label.source for label in data.labels} | set(data.drop)
    assert used | ({data.split.column} - {None}) <= columns


def test_the_catalogue_holds_exactly_what_the_schema_allows() -> None:
    assert set(catalogue.CHOSEN_BY) == set(catalogue.COMPONENTS) == set(catalogue.components())
    for family, key in catalogue.CHOSEN_BY.items():
        allowed = [word for kind, _ in walk.at(key) for word in getattr(kind, "__args__", ())]
        assert sorted(entry.name for entry in catalogue.components()[family]) == sorted(allowed), family
        assert all(
            10 < len(e.description) < 110 or e.description == "the default" for e in catalogue.components()[family]
        )
    assert set(PRESETS) == {entry.name for entry in catalogue.components()["presets"]}


def test_shipped_configs_are_found_by_name_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = catalogue.find_config("movielens")
    assert shipped == catalogue.find_config("movielens.yaml") == catalogue.find_config("configs/movielens.yaml")
    (tmp_path / "movielens.yaml").write_text("seed: 1\n")
    assert catalogue.find_config("movielens.yaml") == Path("movielens.yaml")
    assert catalogue.find_config("movielens") == shipped
    for wrong in ("other/movielens.yaml", "../configs/x.yaml", "a\0b", "x" * 5000, "", ".."):
        with pytest.raises(ConfigError, match="no such file or shipped config"):
            catalogue.find_config(wrong)
    with pytest.raises(ConfigError, match='did you mean "movielens"'):
        catalogue.find_config("movelens")


def test_paths_expand_the_data_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.delenv("AUTODIM_DATA", raising=False)
    with pytest.raises(ConfigError, match="AUTODIM_DATA is not set"):
        expand_path("${AUTODIM_DATA}/x.parquet", work)
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert expand_path("${AUTODIM_DATA}/x.parquet", work) == tmp_path / "shared" / "data" / "x.parquet"
    monkeypatch.setenv("AUTODIM_DATA", str(tmp_path / "elsewhere"))
    assert expand_path("${AUTODIM_DATA}/x.parquet", work) == tmp_path / "elsewhere" / "x.parquet"
    assert expand_path("a/../x.csv", work) == work / "x.csv"
    assert expand_path("/x.csv", work) == Path("/x.csv")
    for wrong in ("${HOME}/x", "$HOME/x", "$AUTODIM_DATA/x", "", "a\0"):
        with pytest.raises(ConfigError, match="path"):
            expand_path(wrong, work)


def test_reading_a_config_imports_neither_torch_nor_the_data_engine() -> None:
    code = (
        "import sys; from autodim.config import catalogue, load_config; "
        "import autodim.cli.ls, autodim.cli.show, autodim.cli.cp; "
        "[load_config(e.path) for e in catalogue.configs()]; catalogue.components(); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'pyarrow', 'pandas', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False).returncode == 0
