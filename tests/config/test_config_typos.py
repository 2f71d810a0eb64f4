"""Every mistyped key is refused, nearly always with the key that was meant; all errors come at once."""

from __future__ import annotations

import random
import string
from typing import Any

import pytest

from autodim.config import load_config, walk
from autodim.config.schema import Section
from autodim.config.spelling import distance
from autodim.errors import ConfigError

KEYS = [key for key, _ in walk.fields()]


def typos(word: str, rng: random.Random) -> list[str]:
    """One of each single edit: a letter lost, doubled, replaced, added, two swapped."""
    i, letter = rng.randrange(len(word)), rng.choice(string.ascii_lowercase)
    j = rng.randrange(max(1, len(word) - 1))
    return [
        word[:i] + word[i + 1 :],
        word[:i] + word[i] + word[i:],
        word[:i] + letter + word[i + 1 :],
        word[:i] + letter + word[i:],
        word[:j] + word[j : j + 2][::-1] + word[j + 2 :],
    ]


def minimal() -> dict[str, Any]:
    return {"data": {"path": "x.csv", "labels": ["click"], "slots": ["user"]}}


def with_key(path: str, word: str) -> dict[str, Any]:
    """A config that is right but for `word` in the place of the last part of a schema key."""
    raw = minimal()
    here: Any = raw
    for part in path.split(".")[:-1]:
        name = part.removesuffix("[]")
        if part == "*":
            here = here.setdefault("user", {})
        elif part.endswith("[]"):
            here[name] = [{"name": "x"}]
            here = here[name][0]
        else:
            here = here.setdefault(name, {})
    here[word] = 1
    return raw


def siblings(path: str) -> set[str]:
    parts: list[str | int] = []
    for part in path.split(".")[:-1]:
        parts += [part.removesuffix("[]"), 0] if part.endswith("[]") else ["user" if part == "*" else part]
    section = walk.section_at(tuple(parts))
    assert section is not None and issubclass(section, Section)
    return set(section.model_fields)


def test_every_typo_of_every_key_is_refused_and_95_percent_guessed() -> None:
    rng = random.Random(0)
    tried = guessed = 0
    for key in KEYS:
        word, known = key.rsplit(".", 1)[-1], siblings(key)
        assert word in known
        for typo in typos(word, rng):
            if typo in known or not typo or typo == word:
                continue
            with pytest.raises(ConfigError) as error:
                load_config(with_key(key, typo))
            about = [line for line in str(error.value).splitlines() if f"{typo}: unknown key" in line]
            assert len(about) == 1, (key, typo, str(error.value))
            tried += 1
            guessed += f'did you mean "{word}"?' in about[0]
    assert tried > 4 * len(KEYS)
    assert guessed / tried >= 0.95, (guessed, tried)


def test_every_choice_is_guessed_from_a_typo() -> None:
    rng = random.Random(1)
    tried = guessed = 0
    for key in KEYS:
        if "[]" in key or "*" in key or not (words := walk.choices(tuple(key.split(".")))):
            continue
        for word in words:
            for typo in typos(word, rng):
                if typo in words or not typo:
                    continue
                with pytest.raises(ConfigError, match="expected one of") as error:
                    load_config(minimal(), [f"{key}='{typo}'"])
                tried += 1
                guessed += f'did you mean "{word}"?' in str(error.value)
    assert tried > 100
    assert guessed / tried >= 0.95, (guessed, tried)


BAD = """\
data:
  path: x.csv
  labels: [click]
  slots:
    - user
    - {name: item, bin: 3}
  header: no
model:
  width: sixteen
  name: deepfn
  hidden: 64
  dropout: 20%
  epochs: 3
prune:
  budgett: {share: 0.1}
  budget: {share: 2}
  min_dim: 4.0
  slots:
    user: {fixd: 3}
seed: "1"
seed: 2
"""


def test_all_errors_at_once_each_with_its_line() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(BAD, ["pretrain.bach=1", "nonsense"], source="my.yaml")
    assert str(error.value).splitlines() == [
        'override: pretrain.bach: unknown key; did you mean "batch"?',
        'override "nonsense": expected key=value, such as prune.budget.share=0.125',
        'my.yaml:6: data.slots[1].bin: unknown key; did you mean "bins"?',
        'my.yaml:7: data.header: found "no", expected true or false; write false, without quotes',
        'my.yaml:9: model.width: found "sixteen", expected a whole number >= 1',
        'my.yaml:10: model.name: found "deepfn", expected one of fm, deepfm, widedeep, dnn, pnn, dcn, dcnv2, '
        "single, shared_bottom, omoe, mmoe, snr, ple, esmm; "
        'did you mean "deepfm"?',
        "my.yaml:11: model.hidden: found 64, expected a list, each a whole number >= 1; write [64]",
        'my.yaml:12: model.dropout: found "20%", expected a number >= 0 and < 1; write 0.2, without quotes',
        'my.yaml:13: model.epochs: unknown key; it belongs elsewhere: "pretrain.epochs", "retrain.epochs"',
        'my.yaml:15: prune.budgett: unknown key; did you mean "budget"?',
        "my.yaml:16: prune.budget.share: found 2, expected a number > 0 and <= 1",
        "my.yaml:17: prune.min_dim: found 4.0, expected a whole number >= 0; write 4",
        'my.yaml:19: prune.slots.user.fixd: unknown key; did you mean "fixed"?',
        'my.yaml:20: seed: found "1", expected a whole number; write 1, without quotes',
        "my.yaml:21: seed: given twice (first on line 20); keep one of them",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\n", "my.yaml: data: missing, expected a section"),
        (
            "data:\n  path: x\n  slots: [a]\n  labels: [{above: 3}]\n",
            "my.yaml:4: data.labels[0].name: missing, expected text",
        ),
        ("data: x.csv\nseed: 1\n", 'my.yaml:1: data: found "x.csv", expected a section'),
        ("- a\n- b\n", "my.yaml: found [\"a\", \"b\"], expected sections"),
        ("\n", "my.yaml: empty"),
        ("# only a comment\n\n", "my.yaml: empty"),
        (
            "data: {path: x, slots: [a], labels: [b]}\nprune: {budget: {unit: dims}}\n",
            "my.yaml:2: prune.budget: give exactly one of `share`",
        ),
        (
            "data: {path: x, slots: [a], labels: [b], missing: [0]}\n\n",
            'data.missing[0]: found 0, expected text; put it in quotes: "0"',
        ),
        (
            "data:\n  path: x\n  slots: [a]\n  labels: [{name: b, equals: true}]\n",
            "my.yaml:4: data.labels[0].equals: found true, expected text or a number",
        ),
    ],
)  # fmt: skip
def test_messages_say_what_was_found_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(text, source="my.yaml")
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_control_characters_of_a_file_never_reach_the_terminal() -> None:
    with pytest.raises(ConfigError) as error:
        load_config('"\\e[2Jx": 1\nrun: ["\\e[31m"]\nseed: "\\e]0;x\\a"\n')
    assert all(c.isprintable() or c == "\n" for c in str(error.value))
    assert len(str(error.value).splitlines()) == 4  # the three, and the missing `data`


def test_distance_counts_single_edits_as_one() -> None:
    assert [distance("budget", w) for w in ("budget", "budgett", "budge", "bugdet", "bodget", "share")] == [
        0, 1, 1, 1, 1, 5,
    ]  # fmt: skip
