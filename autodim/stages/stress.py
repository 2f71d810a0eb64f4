"""stress: how often trainings diverge as learning rates grow (the protocol of Tang et al., KDD 2023, section 5).

Learning rates x factors, recipes, model sizes and seeds; the watch decides what has diverged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autodim import artifact
from autodim.config.schema import Config
from autodim.stages.grid import Cell, markdown, product

ADAGRAD = ("pretrain.optimizer.tables.name=adagrad", "pretrain.optimizer.dense.name=adagrad")
CLEAR = ("pretrain.optimizer.perturb=null", "pretrain.optimizer.clip=[]", "pretrain.watch.policy=stop")


def recipes(max_norm: float, agc: float) -> dict[str, tuple[str, ...]]:
    """The recipes by name: Adagrad alone, and with each stabiliser.

    Args:
        max_norm: of all gradients together, > 0. agc: largest gradient as a share of the weights, > 0.
    """
    return {
        "adagrad": ADAGRAD,
        "norm": (*ADAGRAD, f"pretrain.optimizer.clip=[{{name: norm, max_norm: {max_norm!r}}}]"),
        "agc": (*ADAGRAD, f"pretrain.optimizer.clip=[{{name: agc, clip: {agc!r}}}]"),
        "clippy": (ADAGRAD[0], "pretrain.optimizer.dense.name=clippy_adagrad"),
    }


def stress_cells(
    config: Config,
    names: Sequence[str],
    factors: Sequence[float],
    sizes: Sequence[float],
    lr: float,
    max_norm: float = 1.0,
    agc: float = 0.01,
) -> list[Cell]:
    """The cells of the protocol.

    Args:
        names: of `recipes`. factors: on the learning rate. sizes: factors on the widths of the dense layers.
        lr: the rate of factor 1, of tables and dense parameters alike.
    """
    known = recipes(max_norm, agc)
    hidden = config.model.hidden
    axes: dict[str, Mapping[str, Sequence[str]]] = {
        "recipe": {name: (*CLEAR, *known[name]) for name in names},
        "size": {
            f"{s:g}": () if s == 1 else (f"model.hidden={[max(1, round(h * s)) for h in hidden]}",) for s in sizes
        },
        "rate": {
            f"{f:g}": (f"pretrain.optimizer.tables.lr={lr * f!r}", f"pretrain.optimizer.dense.lr={lr * f!r}")
            for f in factors
        },
    }
    return product(axes)


def stress_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Head and cells: one line a recipe and size, `diverged / tried` at each rate, and the best mean test AUC."""
    rates = list(dict.fromkeys(r["rate"] for r in rows))
    head = ["recipe", "size", *(f"rate x {r}" for r in rates), "best test AUC"]
    body = []
    for recipe, size in dict.fromkeys((r["recipe"], r["size"]) for r in rows):
        own = [r for r in rows if (r["recipe"], r["size"]) == (recipe, size)]
        cells, means = [], []
        for rate in rates:
            at = [r for r in own if r["rate"] == rate]
            cells.append(f"{sum(bool(r['diverged']) for r in at)} / {len(at)}")
            good = [r["auc"] for r in at if r["auc"] is not None]
            if good and len(good) == len(at):
                means.append((sum(good) / len(good), rate))
        best = f"{max(means)[0]:.4f} (x {max(means)[1]})" if means else "–"
        body.append([recipe, size, *cells, best])
    return head, body


def write_stress(folder: Path, rows: list[dict[str, Any]], about: Mapping[str, Any]) -> Path:
    """FOLDER/stress.json and FOLDER/stress.md; returns the latter."""
    artifact.write_json(folder / "stress.json", {"settings": dict(about), "rows": rows})
    said = ", ".join(f"{k} {v}" for k, v in about.items())
    text = f"Diverged / tried ({said}).\n\n{markdown(*stress_table(rows), 2)}"
    artifact.write_text(folder / "stress.md", text)
    return folder / "stress.md"
