"""Shipped configs, and one line about every component. A plain table, so that listing imports no torch.

A test holds the table against the schema: every name that a config may hold is here, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autodim.config.spelling import closest, quoted
from autodim.config.text_file import read_text
from autodim.config.yaml_text import KeyPath, parse
from autodim.errors import ConfigError, NoSuchRun


@dataclass(frozen=True)
class Entry:
    """One line of `autodim ls`; `path` is set for configs."""

    name: str
    description: str
    path: Path | None = None


COMPONENTS: dict[str, dict[str, str]] = {
    "models": {
        "fm": "factorization machine: linear part and all slot pairs' inner products",
        "deepfm": "FM and a deep part on the same slot vectors; the default",
        "widedeep": "a linear part beside a deep part",
        "dnn": "the slot vectors side by side through dense layers",
        "pnn": "dense layers on the slot vectors and the products of slot pairs (inner or outer)",
        "dcn": "cross layers with a weight vector each, beside a deep part",
        "dcnv2": "cross layers with a weight matrix each, beside a deep part",
        "single": "a dense network a task on shared tables; with one label the reference of all sharing",
        "shared_bottom": "several tasks: one network, and a small tower a task",
        "omoe": "several tasks: experts mixed by one gate for all tasks",
        "mmoe": "several tasks: experts, and a gate a task that mixes them (Ma et al. 2018)",
        "snr": "several tasks: levels of sub-networks whose connections are learnt and cut (Ma et al. 2019)",
        "ple": "several tasks: own and shared experts in levels (Tang et al. 2020); one level is CGC",
        "esmm": "click and conversion over all rows: pCTCVR = pCTR x pCVR (Ma et al. 2018)",
    },
    "table_optimizers": {
        "lazy_adam": "Adam whose moments move for the batch's rows only; the default",
        "adagrad": "a step size for each number of each row",
        "rowwise_adagrad": "one step size a row: Adagrad's memory divided by the width",
        "sgd": "plain steps, no state",
    },
    "dense_optimizers": {
        "adam": "the default",
        "adamw": "Adam with weight decay apart from the gradient",
        "adagrad": "step sizes that only fall",
        "sgd": "plain steps, no state",
        "clippy_adagrad": "Adagrad whose updates, not gradients, are bounded by the weights (Tang et al. 2023)",
        "clippy_adam": "the bound of Clippy on the updates of Adam",
    },
    "perturbations": {
        "helen": "sharpness-aware steps that look further for frequent ids (Zhu et al. 2024); twice the work",
        "sam": "sharpness-aware steps, one radius for all weights (Foret et al. 2021); twice the work",
        "asam": "SAM whose radius follows the size of each weight (Kwon et al. 2021); twice the work",
    },
    "clippers": {
        "norm": "one norm over all gradients, bounded by max_norm",
        "agc": "each row or unit's gradient bounded by a share of its weights (Brock et al. 2021)",
        "cowclip": "each id's gradient bounded by its count and weights, for large batches (Zheng et al. 2023)",
    },
    "schedules": {
        "constant": "the learning rates stay, after a warm-up",
        "linear": "the learning rates fall in a straight line to `floor` of them",
        "cosine": "the learning rates fall along half a cosine to `floor` of them",
    },
    "weightings": {
        "uniform": "the sum of the losses; the default",
        "static": "fixed weights by task",
        "decayed": "fixed weights that change by a factor an epoch (PLE, Tang et al. 2020)",
        "uncertainty": "learned weights, less for noisy tasks (Kendall et al. 2018)",
        "dwa": "more weight for tasks whose loss has stopped falling (Liu et al. 2019)",
        "gradnorm": "learned weights that bring the gradients to one length (Chen et al. 2018)",
        "pcgrad": "each gradient without what points against another task's (Yu et al. 2020)",
        "gradvac": "gradients turned until they agree as much as they used to (Wang et al. 2021)",
        "mgda": "the shortest mixture of the gradients (Sener & Koltun 2018)",
        "pe_ltr": "the shortest mixture above a least weight by task (Lin et al. 2019)",
        "paperec": "weights by example or group of examples, approximate (Xie et al. 2021)",
    },
    "strategies": {
        "sseds": "one pass of gradients scores every dimension, the best are kept; as printed with `preset: paper`",
        "spectral": "one pass finds each table's best basis for the loss and keeps its best dimensions; the default",
        "spectral_uniform": "the basis of `spectral`, one width for all slots",
        "spectral_refit": "`spectral`, its projections then solved together in closed form; best without a retrain",
        "spectral_tempered": "the basis of `spectral`, an allocation between that of its spectrum and an even one",
        "magnitude": "keeps the dimensions with the largest weights",
        "random": "keeps dimensions by lot: what any score has to beat",
        "uniform": "one width for all slots: the baseline that often wins",
        "uniform_int8": "one width for all slots, served in row-wise int8: the width solved for bytes in serving",
        "frequency_tiers": "widths from a ladder, the widest for the most frequent slots",
        "power_rule": "width = base x rows^-alpha (mixed dimensions, Ginart et al. 2019)",
        "fourth_root": "width = 6 x rows^0.25, scaled to the budget (the rule of DeepCTR's `auto`)",
        "mask_auc": "keeps the slots without which the AUC drops most; one evaluation a slot",
        "mask_exact": "brute force: the loss without each single dimension; the oracle of the one-shot scores",
        "search": "many short trainings at random widths or by TPE (extra `search`): the expensive baseline",
        "pep": "one training with learned soft thresholds, widths from the kept entries (Liu et al. 2021)",
        "optembed": "a supernet of random prefix widths, evolution at the budget (Lyu et al. 2022)",
        "manual": "the widths of a file",
    },
    "logs": {
        "flights": "327,346 flights of 2013 with planes and weather: was it late? From the `demo` extra, no download",
        "planted": "a generated log whose true widths are known",
        "mmoe": "a generated log of two regressions of a known correlation, numbers only (Ma et al. 2018)",
        "criteo": "the raw Criteo display advertising format: label, I1-I13, C1-C26, tabs, no header",
        "avazu": "the raw Avazu format: CSV with a header, `click` and `hour`",
    },
    "retrain_modes": {
        "warm": "starts as the cut model, with its loss; where no evaluation is better, that stays; the default",
        "warm_cold_first": "warm with a fresh first dense layer (SSEDS paper)",
        "cold": "fresh weights at the found widths",
        "none": "the cut model as it is",
    },
    "presets": {
        "paper": "SSEDS as printed: budget in dims, one raw global ranking, no floor, first dense layer cold",
    },
}

# Where in the schema each family is chosen; `show` tells it, and the test against drift walks it.
CHOSEN_BY: dict[str, KeyPath] = {
    "models": ("model", "name"),
    "table_optimizers": ("pretrain", "optimizer", "tables", "name"),
    "dense_optimizers": ("pretrain", "optimizer", "dense", "name"),
    "perturbations": ("pretrain", "optimizer", "perturb", "name"),
    "clippers": ("pretrain", "optimizer", "clip", 0, "name"),
    "schedules": ("pretrain", "optimizer", "schedule", "name"),
    "weightings": ("pretrain", "weighting", "name"),
    "strategies": ("prune", "strategy"),
    "logs": ("data", "log"),
    "retrain_modes": ("retrain", "mode"),
    "presets": ("prune", "preset"),
}


def folder() -> Path:
    """The shipped configs: inside the installed package, or beside it in a checkout.

    Raises:
        ConfigError: neither exists (a damaged installation).
    """
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "shipped", package.parent / "configs"):
        if (candidate / "template.yaml").is_file():
            return candidate
    raise ConfigError(f"the shipped configs are missing from {package / 'shipped'}; install autodim again")


def configs() -> list[Entry]:
    """The shipped configs by name, each with its `description:`."""
    entries = []
    for path in sorted(folder().glob("*.yaml")):
        value = parse(read_text(path), str(path)).value
        description = value.get("description", "") if isinstance(value, dict) else ""
        entries.append(Entry(path.stem, str(description), path))
    return entries


def components() -> dict[str, list[Entry]]:
    """What a config can choose from, by family."""
    return {family: [Entry(name, text) for name, text in table.items()] for family, table in COMPONENTS.items()}


def find_config(name: str) -> Path:
    """The file of a path or of a shipped config's name (`movielens`, `movielens.yaml`, `configs/movielens.yaml`).

    A file of that name in the current folder comes first. Only a bare name or one in a folder `configs` falls back
    to the shipped ones, so that the commands in the shipped files work without a checkout.

    Raises:
        ConfigError: no such file and no such shipped config.
    """
    given = Path(name)
    if is_there(given):
        return given
    if given.suffix in ("", ".yaml", ".yml") and given.parent in (Path("."), Path("configs")):
        shipped = {entry.name: entry.path for entry in configs()}
        if path := shipped.get(given.stem):
            return path
        if guess := closest(given.stem, [*shipped, *(word for table in COMPONENTS.values() for word in table)]):
            raise ConfigError(f'{quoted(name)}: no such file or shipped config; did you mean "{guess}"?')
    if name and is_folder(given):
        raise ConfigError(
            f"{quoted(name)}: no such file or shipped config, and the folder is no run's (no config.yaml in it)"
        )
    raise ConfigError(f"{quoted(name)}: no such file or shipped config; `autodim ls configs` lists the shipped ones")


def config_file(folder: Path) -> Path:
    """The config of a run's folder.

    Raises:
        NoSuchRun: no such folder, or one that is no run's.
    """
    path = folder / "config.yaml"
    if not is_there(path):
        what = "not a run folder (no config.yaml in it)" if is_folder(folder) else "no such run folder"
        raise NoSuchRun(f"{quoted(str(folder))}: {what}; expected one that `autodim search` made")
    return path


def is_folder(path: Path) -> bool:
    """Whether a folder stands at a path; False for names that no folder can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_there(path: Path) -> bool:
    """Whether something other than a folder stands at a path; False for names that no file can have."""
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False
