"""YAML is read as people mean it, and a hostile file costs nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from autodim.config.text_file import MAX_BYTES, read_text
from autodim.config.yaml_text import MAX_DEPTH, parse
from autodim.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("On", "On"),
        ("True", "True"),
        ("012", "012"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2024-01-02", "2024-01-02"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("=", "="),
        ("1e-3", 0.001),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("-7", -7),
        ("0", 0),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1e-3'", "1e-3"),
        ('"true"', "true"),
        ("[1, no, 1e2]", [1, "no", 100.0]),
    ],
)
def test_scalars_mean_what_they_say(text: str, value: object) -> None:
    found = parse(f"key: {text}\n", "x").value["key"]
    assert found == value
    assert type(found) is type(value)


def test_json_is_read_as_json_means_it() -> None:
    value = {"run": "\U0001f600/é\t", "list": [1, 2.5, True, None, "x"]}
    assert parse(json.dumps(value), "x").value == value


def test_keys_are_text_whatever_they_look_like() -> None:
    assert parse("on: 1\nnull: 2\n12: 3\ntrue: 4\n", "x").value == {"on": 1, "null": 2, "12": 3, "true": 4}


def test_lines_are_those_of_the_keys() -> None:
    lines = parse("a:\n  b: 1\n\n  c:\n    - x\n    - {d: 2}\n", "x").lines
    assert lines == {("a",): 1, ("a", "b"): 2, ("a", "c"): 4, ("a", "c", 0): 5, ("a", "c", 1): 6, ("a", "c", 1, "d"): 6}


def test_duplicate_keys_are_all_refused_with_both_lines() -> None:
    problems = parse("a: 1\nb: {c: 1,\n    c: 2}\na: 3\n", "x").problems
    assert problems == [
        "x:3: c: given twice (first on line 2); keep one of them",
        "x:4: a: given twice (first on line 1); keep one of them",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [echo]",
        "a: !!python/name:os.system",
        "a: !!binary aGk=",
        "a: !!set {x}",
        "a: !x 1",
        "a: !!int 0x10",
        "<<: {a: 1}",
        "? [a]\n: 1",
        'a: "\\0"',
        'a: "\\ud800"',
        '"\\0": 1',
        "a: 99999999999999999999",
        "a: 1e999",
    ],
)
def test_tags_merges_and_odd_characters_are_refused(text: str) -> None:
    parsed = parse(text, "x")
    assert len(parsed.problems) == 1
    assert parsed.problems[0].startswith("x:1: found ")


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "a: 'x",
        "a: b: c",
        "\ta: 1",
        "a:\n\tb: 1",
        "a: 1\n---\nb: 2\n",
        "a: *nowhere",
        "a: \x07",
        'a: "\\UFFFFFFFF"',
        "a: &x 1\nb: &x 2\n- c",
        "%YAML 9\n---\na: 1",
        "@a",
    ],
)
def test_what_is_no_yaml_is_one_config_error_with_its_source(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^my\.yaml"):
        parse(text, "my.yaml")


def test_tabs_are_named() -> None:
    with pytest.raises(ConfigError, match=r"my\.yaml:2: .*indent with spaces"):
        parse("a:\n\tb: 1\n", "my.yaml")


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 50_000, "- " * 50_000, "? " * 50_000])
def test_deep_nesting_is_refused_and_not_a_recursion_error(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ConfigError, match=rf"deeper than {MAX_DEPTH}"):
        parse(text, "x")
    assert time.perf_counter() - start < 5


def test_deepest_allowed_nesting_is_read() -> None:
    value = parse("[" * (MAX_DEPTH - 1) + "1" + "]" * (MAX_DEPTH - 1), "x").value
    for _ in range(MAX_DEPTH - 1):
        (value,) = value
    assert value == 1


def test_anchor_bombs_are_refused_quickly() -> None:
    levels = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
    start = time.perf_counter()
    with pytest.raises(ConfigError, match="more than 20,000 values"):
        parse(f"a0: &a0 [x]\n{levels}\n", "x")
    assert time.perf_counter() - start < 5


def test_an_anchor_inside_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="nested deeper"):
        parse("a: &a [*a]\n", "x")


def test_plain_anchors_work() -> None:
    assert parse("a: &t {lr: 1e-3}\nb: *t\n", "x").value == {"a": {"lr": 0.001}, "b": {"lr": 0.001}}


def test_too_many_values_are_refused() -> None:
    with pytest.raises(ConfigError, match="more than 20,000 values"):
        parse("[" + "1," * 30_000 + "]", "x")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a: 1\nb: \xff\n", r":2: found byte 0xff, expected UTF-8"),
        ("a: 1".encode("utf-16"), "found UTF-16"),
        (b"a: 1\nb: \0\n", r":2: found a NUL"),
        (b"#" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_files_that_are_no_text_are_refused(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(raw)
    with pytest.raises(ConfigError, match=message):
        read_text(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(b"\xef\xbb\xbfseed: 1\r\n")
    assert parse(read_text(path), "x").value == {"seed": 1}


def test_pipes_folders_and_missing_files_do_not_hang(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="not a regular file"):
        read_text(pipe)
    with pytest.raises(ConfigError, match="not a regular file"):
        read_text(Path(os.devnull))
    with pytest.raises(ConfigError, match="expected a YAML file"):
        read_text(tmp_path)
    with pytest.raises(ConfigError, match="autodim ls configs"):
        read_text(tmp_path / "none.yaml")
