"""Recipe files: named sets of settings that `autodim recipes` trains side by side. Torch-free.

vary:
  model:
    deepfm: [model.name=deepfm]
    dnn: [model.name=dnn]
  batch:
    1x: []
    4x: [pretrain.batch=8192]
also:                                       # extra settings of some combinations
  - {when: {model: dnn, batch: 4x}, set: [pretrain.epochs=40]}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from autodim.config.sections.base import Section
from autodim.config.text_file import read_text
from autodim.config.yaml_text import parse
from autodim.errors import ConfigError, did_you_mean


class Also(Section):
    """Settings for the combinations that have these names on these axes."""

    when: dict[str, str]
    set: tuple[str, ...]


class Recipes(Section):
    """A recipe file."""

    description: str = ""
    vary: dict[str, dict[str, tuple[str, ...]]] = Field(min_length=1)
    also: tuple[Also, ...] = ()

    def extra(self, names: Mapping[str, str]) -> tuple[str, ...]:
        """The settings of `also` for one combination."""
        found: list[str] = []
        for one in self.also:
            if all(names[axis] == name for axis, name in one.when.items()):
                found += one.set
        return tuple(found)


def read_recipes(path: Path) -> Recipes:
    """Read a recipe file.

    Raises:
        ConfigError: not such a file, or `also` names an axis or an entry that `vary` does not have.
    """
    value: Any = parse(read_text(path), str(path)).value
    try:
        found = Recipes.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "the file"
        raise ConfigError(
            f"{path}: {where}: {first['msg'].lower()}; expected `vary: {{axis: {{name: [key=value, ...]}}}}` and, if "
            "wished, `also: [{when: {axis: name}, set: [key=value]}]`"
        ) from None
    for axis, entries in found.vary.items():
        if not entries:
            raise ConfigError(f"{path}: vary.{axis}: no entries; expected at least one `name: [key=value, ...]`")
    for number, one in enumerate(found.also):
        for axis, name in one.when.items():
            if axis not in found.vary:
                raise ConfigError(f"{path}: also.{number}.when: no axis {axis!r}{did_you_mean(axis, list(found.vary))}")
            if name not in found.vary[axis]:
                known = list(found.vary[axis])
                raise ConfigError(f"{path}: also.{number}.when.{axis}: no entry {name!r}{did_you_mean(name, known)}")
    return found
