"""A written config reads back as itself; hashes change when, and only when, their sections do."""

from __future__ import annotations

import hashlib

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from autodim.config import Config, load_config, section_hash, to_yaml

RAW = {"data": {"path": "x.csv", "labels": ["click"], "slots": ["user", "item"]}}

texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    | st.sampled_from("noy01e-:#~'\"\n\t |>[]{}&*!%@`"),
    max_size=20,
)
traps = st.sampled_from(
    ["no", "yes", "012", "12:30", "1e-3", "null", "~", "", "true", "2024-01-02", "0x1f", ".5", "1_0", "="]
)
words = texts | traps


@given(
    text=words,
    missing=st.lists(words, max_size=4),
    drop=st.dictionaries(
        words, words | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False)
    ),
    lr=st.floats(1e-12, 1e6),
    equals=words | st.floats(-1e9, 1e9),
)
@settings(max_examples=150, deadline=None)
def test_round_trip(text: str, missing: list[str], drop: dict, lr: float, equals: str | float) -> None:
    raw = {
        "description": text,
        "data": {
            **RAW["data"],
            "labels": [{"name": "click", "equals": equals}],
            "drop": drop,
            "missing": missing,
        },
        "pretrain": {"optimizer": {"tables": {"lr": lr}}},
    }
    config = load_config(raw).config
    written = to_yaml(config)
    assert load_config(written).config == config
    assert to_yaml(load_config(written).config) == written


def test_other_yaml_readers_read_the_same_texts() -> None:
    """What PyYAML's 1.1 rules would take for a bool, an int or a date is in quotes."""
    traps = ["no", "012", "12:30", "1e-3", "2024-01-02", "0x1f", "1_0", "="]
    config = load_config({"data": {**RAW["data"], "missing": traps}}).config
    assert yaml.safe_load(to_yaml(config))["data"]["missing"] == traps


def test_every_setting_is_written() -> None:
    written = yaml.safe_load(to_yaml(load_config(RAW).config))
    assert list(written) == list(Config.model_fields)
    quality = {"max_loss_increase": None, "max_auc_drop": None}
    assert written["prune"]["budget"] == {"unit": "params", "share": 0.25, "amount": None, **quality}
    assert "data:\n  path: x.csv\n" in to_yaml(load_config(RAW).config)
    assert "  - {name: user, kind: categorical" in to_yaml(load_config(RAW).config)


def test_a_hash_depends_on_its_sections_alone() -> None:
    one = load_config(RAW).config
    other = load_config(RAW, ["prune.budget.share=0.1"]).config
    assert section_hash(one, "data", "model") == section_hash(other, "model", "data")
    assert section_hash(one, "prune") != section_hash(other, "prune")
    assert section_hash(one, "prune.rank") == section_hash(other, "prune.rank")
    assert section_hash(one, "data") != section_hash(one, "model")
    assert len(section_hash(one, "data")) == 64


def test_the_hash_is_pinned_so_that_finished_stages_stay_finished() -> None:
    """sha256 of the canonical JSON, computed apart from the code."""
    expected = hashlib.sha256(b'{"model.hidden":[400,400,400],"seed":0}').hexdigest()
    assert section_hash(load_config(RAW).config, "seed", "model.hidden") == expected
