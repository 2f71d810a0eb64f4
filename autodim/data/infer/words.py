"""What the names of columns say, and names as YAML."""

from __future__ import annotations

import json
import re

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_YAML_WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"))


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


STRONG_ID = _set("id ids uid guid uuid code codes hash key zip zipcode postcode postal ip")
ID = _set(
    "user item movie film product sku device session ad campaign creative advertiser publisher site app category cat "
    "brand shop store merchant city region country state model channel author artist track song query customer client "
    "member account flight carrier tail station page url domain tag tags type class group segment slot pos position "
    "occupation industry"
)
NUMBER = _set(
    "price cost amount amt qty quantity count counts cnt num number age duration length len size score rate ratio pct "
    "percent avg mean sum total distance dist weight height width value temp temperature delay speed income salary "
    "balance views visits hits clicks seconds minutes days hours lat lon latitude longitude gain gains loss losses "
    "wage capital dividends seats engines percentile bid ctr"
)
TIME = _set("time timestamp ts date datetime hour day created updated at unix epoch when week month dt")
OUTCOME = _set(
    "click clicked label target conversion converted convert purchase purchased bought buy order ordered like liked "
    "rating y outcome response install installed churn churned watched"
)


def words_of(name: str) -> list[str]:
    """Lower-case words of a name: `lastItemId` and `last_item-id` are last, item, id."""
    return [w.lower() for w in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+", name)]


def says_id(name: str) -> bool:
    """Whether a name says that numbers are ids; a word like `price` beside `item` says that they are not."""
    words = set(words_of(name))
    return bool(words & STRONG_ID) or bool(words & ID and not words & NUMBER)


def says_number(name: str) -> bool:
    words = set(words_of(name))
    return bool(words & NUMBER) and not words & STRONG_ID


def says_time(name: str) -> bool:
    return bool(set(words_of(name)) & TIME)


def says_outcome(name: str) -> bool:
    """Whether a name is an outcome's: `click`, `is_click`, `hasPurchased`, but not `click_position`."""
    words = [w for w in words_of(name) if w not in ("is", "has", "did", "was", "flag")]
    return len(words) == 1 and words[0] in OUTCOME


def scalar(value: str | int | float) -> str:
    """A value as YAML, safe in a flow mapping and in a comment: quoted and escaped unless plainly a name."""
    if not isinstance(value, str):
        return f"{value:.15g}" if isinstance(value, float) else str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS:
        return value
    tame = all(c.isalnum() or (c.isascii() and c.isprintable()) for c in value)
    return json.dumps(value, ensure_ascii=not tame)


def flow(entry: dict[str, str | int | float]) -> str:
    """A mapping on one line; a bare name where there is nothing else."""
    if list(entry) == ["name"]:
        return scalar(entry["name"])
    return "{" + ", ".join(f"{key}: {scalar(value)}" for key, value in entry.items()) + "}"


def usable(name: str) -> bool:
    """Whether a config can name the column."""
    return 0 < len(name) <= 200 and name.isprintable()
