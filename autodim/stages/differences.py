"""Differences of a comparison's cells to a reference, on the same test rows within each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from autodim import artifact
from autodim.config.schema import Config
from autodim.data.columns import Columns
from autodim.data.encoded import EncodedLog
from autodim.dimension.allocation import Allocation
from autodim.errors import ConfigError, RunError, did_you_mean
from autodim.report.differences import Difference, SeedDifference, difference
from autodim.stages.compare import Grid, Place, cell_run, row_name, seed_run
from autodim.stages.pretrain import run_result
from autodim.stages.run import Run
from autodim.stages.serve import load_served
from autodim.training.bounds import lost
from autodim.training.checkpoints import load_tensors, save_tensors
from autodim.training.device import set_up
from autodim.training.evaluation import predict
from autodim.training.progress import Progress


def differences(
    config: Config, place: Place, grid: Grid, rows: Sequence[dict[str, Any]], reference: str, progress: Progress
) -> dict[float, list[Difference]]:
    """Per budget share the differences of all cells to the reference; also in FOLDER/differences.json.

    Args:
        rows: what `compare` returned.
        reference: `uncut`, a strategy (of the grid's first mode), or `strategy, mode`.

    Raises:
        ConfigError: a reference that was not compared.

    Cost: an evaluation on test of each cell that has none cached (`test.safetensors` in its folder).
    """
    names = list(dict.fromkeys(row_name(r) for r in rows))
    first = {s: row_name({"strategy": s, "mode": m}) for s, m in reversed(grid.cells)}
    wanted = first.get(reference, reference)
    if wanted not in names:
        raise ConfigError(
            f"--reference: found {reference!r}{did_you_mean(reference, list(dict.fromkeys([*first, *names])))}"
        )
    found = paired(config, place, grid, rows, wanted, progress)
    record = [
        {"share": share, "model": name, "reference": wanted, "seeds": [asdict(s) for s in seeds]}
        for share, models in found.items()
        for name, seeds in models.items()
    ]
    artifact.write_json(place.folder / "differences.json", record)
    return {share: [difference(n, wanted, seeds) for n, seeds in models.items()] for share, models in found.items()}


def paired(
    config: Config, place: Place, grid: Grid, rows: Sequence[dict[str, Any]], reference: str, progress: Progress
) -> dict[float, dict[str, list[SeedDifference]]]:
    """Per budget share and cell its differences to the reference (a name of `row_name`), one a seed that both have.

    Cost: as `differences`.
    """
    device = set_up(config.device, config.threads)
    base = place.home(config)
    log = EncodedLog.open(base.need("prepare") / "log")
    columns = log.part("test")
    labels = columns.labels.to(device)
    found: dict[float, dict[str, list[SeedDifference]]] = {}
    progress.start("compare: differences", len(grid.seeds), unit="seeds")
    for done, seed in enumerate(grid.seeds, start=1):
        parent = seed_run(base, place, seed)
        uncut = logits_on_test(parent, "pretrain", columns, device)
        for share in grid.shares:
            logits = {"uncut": uncut}
            for strategy, mode in grid.cells:
                cell = cell_run(parent, strategy, share, mode)
                if cell.done("evaluate") is not None and feasible(rows, strategy, mode, share, seed):
                    name = row_name({"strategy": strategy, "mode": mode})
                    logits[name] = logits_on_test(cell, "retrain", columns, device)
            if reference not in logits:
                continue
            for name, scores in logits.items():
                if name == reference:
                    continue
                one = lost(scores, logits[reference], labels, log.tasks)[0]
                if one.auc == one.auc:  # a number
                    pair = SeedDifference(seed, 0.0 - one.auc, one.auc_error, one.loss, one.loss_error)
                    found.setdefault(share, {}).setdefault(name, []).append(pair)
        progress.update(done)
    return found


def feasible(rows: Sequence[dict[str, Any]], strategy: str, mode: str | None, share: float, seed: int) -> bool:
    """Whether a cell has figures in this comparison (an older one's may lie in its folder)."""
    key = (strategy, mode, share, seed)
    return any((r["strategy"], r.get("mode"), r["share"], r["seed"]) == key and "infeasible" not in r for r in rows)


def logits_on_test(run: Run, stage: str, columns: Columns, device: Any) -> Tensor:
    """Logits of a stage's model on the test rows as it is served, N x T; kept beside it and computed once a model."""
    folder: Path = run.folder / "test-logits"
    widths = run.stage(stage) / "widths.yaml"
    rounded = widths.is_file() and Allocation.from_yaml(widths.read_text(encoding="utf-8")).served_rounded
    key = run_result(run, stage)[:16] + ("-served" if rounded else "")
    path = folder / f"{stage}-{key}.safetensors"
    if path.is_file():
        try:
            logits = load_tensors(path)["logits"]
            if len(logits) == len(columns):
                return logits.to(device)
        except RunError:
            pass  # cut short by a crash: made again
    logits = predict(load_served(run.stage(stage), device), columns, device)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    save_tensors(temporary, {"logits": logits})
    temporary.replace(path)
    return logits
