"""What a YAML may say, read strictly and without torch.

In: a YAML file, `key=value` overrides. Out: a frozen, complete `Config` and the origin of every value, or one
ConfigError that lists everything wrong with file and line.

    schema      the sections and keys, their types and bounds; the manual
    yaml_text   YAML to plain values with line numbers; a strict, bounded subset
    overrides   `prune.budget.share=0.125`
    presets     one word that fixes several settings
    translate   pydantic's errors in a user's words
    check       contradictions across sections, settings without effect
    reader      all of that in order: `load_config`
    writer      `to_yaml`, `section_hash`
    paths       `${AUTODIM_DATA}`
    catalogue   shipped configs and one line about every component
"""

from autodim.config.paths import expand_path
from autodim.config.reader import Loaded, load_config
from autodim.config.schema import Config
from autodim.config.writer import section_hash, to_yaml

__all__ = ["Config", "Loaded", "expand_path", "load_config", "section_hash", "to_yaml"]
