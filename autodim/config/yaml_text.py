"""YAML text to plain values, with the line of every key and none of YAML 1.1's surprises.

PyYAML reads `no` as false, `012` as ten, `12:30` as 750, `1e-3` as text, keeps the last of two equal keys and
recurses without limit. Here only true, false, null, decimal numbers and floats (1e-3 too) mean something; all
else is text. Keys are always text. Nesting, size and the number of values are bounded, so that a hostile file
costs nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from autodim.config.spelling import plain_key, quoted
from autodim.config.text_file import MAX_BYTES
from autodim.errors import ConfigError

MAX_DEPTH = 30
MAX_VALUES = 20_000  # after anchors are expanded

KeyPath = tuple[str | int, ...]  # where a value stands: ("data", "slots", 3, "name")

IMPLICIT = (
    ("tag:yaml.org,2002:bool", re.compile(r"(?:true|false)\Z"), list("tf")),
    ("tag:yaml.org,2002:null", re.compile(r"(?:null|~|)\Z"), ["n", "~", ""]),
    ("tag:yaml.org,2002:int", re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z"), list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\Z"),
        list("-+.0123456789"),
    ),
)


class _Loader(yaml.SafeLoader):
    """SafeLoader that resolves only `IMPLICIT` and stops before the stack or the memory does."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own name
    depth = 0
    nodes = 0
    source = "config"

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_VALUES:
            line = self.peek_event().start_mark.line + 1
            _refuse_size(f"{self.source}:{line}", self.depth > MAX_DEPTH)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _tag, _pattern, _first in IMPLICIT:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)


@dataclass
class Parsed:
    """What a YAML text says.

    Attributes:
        value: dicts with text keys, lists, text, bool, int, float, None.
        lines: line of each key and list item, from 1.
        problems: lines such as `my.yaml:9: ...` about what is refused without making the rest unreadable.
    """

    value: Any
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def parse(text: str, source: str) -> Parsed:
    """Reads one YAML document.

    Args:
        text: the document.
        source: what messages call it, such as the file's name.

    Raises:
        ConfigError: not YAML, several documents, too deep, too large or too many values.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{source}: longer than {MAX_BYTES:,} characters; expected a config")
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        loader.source = source
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        context = f" ({error.context})" if error.context else ""
        raise ConfigError(f"{where}: not readable as YAML: {error.problem}{context}{_yaml_hint(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise ConfigError(f"{source}:{line}: found character {error.character:#x}, expected printable text") from None
    except (ValueError, OverflowError, yaml.YAMLError) as error:
        # PyYAML lets Python's own errors through for impossible escapes such as "\UFFFFFFFF".
        raise ConfigError(f"{source}: not readable as YAML: {error}") from None
    finally:
        if loader is not None:
            loader.dispose()
    parsed = Parsed(None)
    if node is not None:
        parsed.value = _Converter(source, parsed).convert(node, (), 0)
    return parsed


class _Converter:
    """Composed nodes to plain values; counts them, since an alias may repeat its anchor without end."""

    def __init__(self, source: str, parsed: Parsed) -> None:
        self.source = source
        self.parsed = parsed
        self.count = 0

    def convert(self, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        self.count += 1
        if depth > MAX_DEPTH or self.count > MAX_VALUES:
            _refuse_size(self._at(node), depth > MAX_DEPTH)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            items = []
            for i, item in enumerate(node.value):
                self.parsed.lines[(*path, i)] = item.start_mark.line + 1
                items.append(self.convert(item, (*path, i), depth + 1))
            return items
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        return self._problem(node, f"found the YAML tag {quoted(node.tag)}, expected plain values without tags")

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, "found a list or a section as a key, expected `name: value`")
                continue
            if not self._clean(key_node):
                continue
            key: str = key_node.value
            if key == "<<" and key_node.style is None:
                self._problem(key_node, "found a merge key `<<`, which is not supported; repeat the settings")
                continue
            here = (*path, key)
            if key in result:
                first = self.parsed.lines[here]
                self._problem(key_node, f"{plain_key(key)}: given twice (first on line {first}); keep one of them")
                continue
            self.parsed.lines[here] = key_node.start_mark.line + 1
            result[key] = self.convert(value_node, here, depth + 1)
        return result

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        match node.tag:
            case "tag:yaml.org,2002:str":
                return node.value if self._clean(node) else None
            case "tag:yaml.org,2002:bool" if text in ("true", "false"):
                return text == "true"
            case "tag:yaml.org,2002:null":
                return None
            case "tag:yaml.org,2002:int" if IMPLICIT[2][1].match(text):
                if len(text.lstrip("+-")) > 19 or abs(int(text)) >= 2**63:
                    return self._problem(node, f"found {quoted(text)}, expected a number below 2^63")
                return int(text)
            case "tag:yaml.org,2002:float" if IMPLICIT[3][1].match(text):
                number = float(text)
                if math.isinf(number):
                    return self._problem(node, f"found {quoted(text)}, expected a finite number")
                return number
        return self._problem(node, f"found the YAML tag {quoted(node.tag)}, expected plain values without tags")

    def _clean(self, node: yaml.ScalarNode) -> bool:
        node.value = _join_surrogates(node.value)
        if not is_clean(node.value):
            self._problem(node, "found NUL or half a surrogate pair in a text, expected characters")
            return False
        return True

    def _at(self, node: yaml.Node) -> str:
        return f"{self.source}:{node.start_mark.line + 1}"

    def _problem(self, node: yaml.Node, text: str) -> None:
        self.parsed.problems.append(f"{self._at(node)}: {text}")


def is_clean(text: str) -> bool:
    """False for NUL and lone surrogates, which escapes can smuggle in and no file name or JSON can hold."""
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text)


def _join_surrogates(text: str) -> str:
    """JSON writes characters beyond 16 bits as two escapes, which PyYAML reads as two characters."""
    if all(c < "\ud800" or c > "\udfff" for c in text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _refuse_size(where: str, deep: bool) -> None:
    if deep:
        raise ConfigError(f"{where}: nested deeper than {MAX_DEPTH} levels; expected a config of sections and values")
    raise ConfigError(f"{where}: more than {MAX_VALUES:,} values (anchors count each time they are used)")


def _yaml_hint(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    if "'\\t'" in problem:
        return "; indent with spaces, not with tabs"
    if "but found another document" in problem:
        return "; keep one document, without a second `---`"
    if "mapping values are not allowed" in problem:
        return "; is the indentation right, and is a text with `: ` in quotes?"
    if "cannot start any token" in problem or "unknown escape" in problem:
        return "; put the text in single quotes"
    return ""
