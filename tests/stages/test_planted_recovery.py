"""On a planted log that can be learnt, the spectral cut finds each slot's true width."""

import pytest
from conftest import REPOSITORY

from autodim.config.reader import load_config
from autodim.config.schema import BudgetConfig
from autodim.stages.cutter import Cutter
from autodim.stages.prepare import prepare
from autodim.stages.pretrain import pretrain
from autodim.stages.run import Run
from autodim.stages.session import Session
from autodim.stages.truth import true_widths
from autodim.training.device import set_up
from autodim.training.progress import Progress


def recovered(folder, *overrides):
    """Found and true widths by strategy, at the budget of as many dimensions as there are true ones."""
    config = load_config(REPOSITORY / "configs" / "planted_recovery.yaml", [f"run={folder}", *overrides]).config
    run = Run(folder, config)
    session = Session(set_up("cpu", config.threads), Progress("quiet"))
    log = prepare(run, session)
    pretrain(run, log, session)
    cutter, truth = Cutter(run, log, session), true_widths(run)
    budget = BudgetConfig(unit="dims", amount=sum(truth.values()))
    return truth, {s: cutter.cut(s, budget).allocation.widths for s in ("spectral", "sseds", "magnitude")}


def worst(found, truth):
    return max(abs(found[name] - width) for name, width in truth.items())


def test_a_small_one(tmp_path):
    truth, found = recovered(
        tmp_path, "data.options={rows: 150000, slots: 6, width: 4, ids: 60, auc: 0.85, noise: 0.0, seed: 0}",
        "model.width=6", "pretrain.epochs=4", "threads=1",
    )  # fmt: skip
    assert set(truth.values()) == {0, 1, 2, 4}
    assert found["spectral"] == truth
    assert worst(found["magnitude"], truth) > 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_as_shipped_every_width_is_found(tmp_path, seed):
    """Another log (widths, latents, rows) and another training each; exactly, or within one."""
    options = f"data.options={{rows: 1000000, slots: 10, width: 16, ids: 2000, seed: {seed}}}"
    truth, found = recovered(tmp_path, options, f"seed={seed}")
    assert max(truth.values()) == 16 and 0 in truth.values()
    assert worst(found["spectral"], truth) <= 1
    assert worst(found["sseds"], truth) > 1 and worst(found["magnitude"], truth) > 1
