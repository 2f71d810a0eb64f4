"""Ways to share between two tasks of known relation, ranked by test loss: MMoE's synthetic data, numbers only.

Shows the stages from Python: one encoded log for many runs, a model of each label alone as reference, and what a loss
that is 100 times another's does to a shared model (labels 10 times as large, had they not been standardised).
Without arguments it is a minute's sketch; `--full` takes three seeds, more rows and epochs, and about five minutes.

    python examples/08_rank_sharing.py --full
"""

import sys
import tempfile
from pathlib import Path
from statistics import fmean

from autodim.config import load_config
from autodim.config.schema import Config
from autodim.data.encoded import EncodedLog
from autodim.stages.model_folder import load_network
from autodim.stages.outcomes import OneLabel
from autodim.stages.prepare import prepare
from autodim.stages.pretrain import pretrain
from autodim.stages.run import Run
from autodim.stages.session import Session
from autodim.training.device import set_up
from autodim.training.evaluation import evaluate

FULL = "--full" in sys.argv
SEEDS = range(3) if FULL else range(1)
ROWS, EPOCHS = (20_000, 15) if FULL else (2_000, 2)
# the paper's sizes: 100 inputs, 8 experts of 16, towers of 8; a bottom of 113 units has as many weights
EXPERTS = ["model.sharing={experts: 8, expert_hidden: [16], towers: [8]}"]
MODELS: dict[str, list[str]] = {
    "single": ["model.hidden=[113,8]"],
    "shared_bottom": ["model.hidden=[113]", "model.sharing.towers=[8]"],
    "omoe": EXPERTS,
    "mmoe": EXPERTS,
    "ple": ["model.sharing={own_experts: 3, shared_experts: 2, levels: 1}"],
}
LOG = f"data.options={{rows: {ROWS}, dimension: 100, waves: 3, correlation: %g}}"


def config(folder: Path, correlation: float, *overrides: str) -> Config:
    train = f"{{batch: 256, epochs: {EPOCHS}, evals_per_epoch: 1, select_by: mean, optimizer: {{dense: {{lr: 2e-3}}}}}}"
    text = f"model: {{name: dnn}}\npretrain: {train}\nthreads: 1\ndata: {{log: mmoe}}\n"
    return load_config(text, [f"run={folder}", LOG % correlation, *overrides]).config


def losses(run: Run, log: EncodedLog, session: Session) -> list[float]:
    """Test losses of the run's model; 1 is what the mean of the label scores."""
    pretrain(run, log, session)
    network, _ = load_network(run.stage("pretrain") / "model")
    return [m.loss for m in evaluate(network, log.part("test"), session.device, log.tasks)]


def rank(root: Path, correlation: float, extra: list[str], session: Session) -> None:
    base = Run(root / f"{correlation}", config(root / f"{correlation}", correlation))
    log = prepare(base, session)
    found: dict[str, list[list[float]]] = {}
    for name, options in MODELS.items():
        for seed in SEEDS:
            wanted = config(root, correlation, f"model.name={name}", f"seed={seed}", *options, *extra)
            run = Run(base.folder / f"{name}-{seed}-{len(extra)}", wanted, {"prepare": base.stage("prepare")})
            if name == "single":  # a model for each label, which no weight of the other can touch
                alone = wanted.model_copy(update={"pretrain": base.config.pretrain})
                runs = [Run(base.folder / f"{name}-{seed}-{t}", alone, run.shared) for t in range(2)]
                each = [losses(r, OneLabel.of(log, t), session)[0] for t, r in enumerate(runs)]
            else:
                each = losses(run, log, session)
            found.setdefault(name, []).append(each)
    means = {n: [fmean(t) for t in zip(*rows, strict=True)] for n, rows in found.items()}
    shown = ", ".join(f"{n} {a:.3f}/{b:.3f}" for n, (a, b) in sorted(means.items(), key=lambda item: sum(item[1])))
    print(f"correlation {correlation:g}{', second loss x 100' if extra else ''}: {shown}", flush=True)


with tempfile.TemporaryDirectory() as folder:
    session = Session(set_up("cpu", 1))
    for correlation in (0.0, 0.5, 1.0):
        rank(Path(folder), correlation, [], session)
    rank(Path(folder), 0.5, ["pretrain.weighting={name: static, weights: {second: 100}}"], session)
