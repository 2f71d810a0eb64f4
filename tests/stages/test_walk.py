"""Whatever was asked of a folder before, a search ends as in a fresh one: settings changed to and fro, single stages,
signals at any moment, a log that was written anew, and always the same weights, widths and metrics."""

import os
import random
import signal
import threading

import pytest
from conftest import OUTCOME, outcome, tiny_config, tiny_frame

from autodim.errors import BudgetError, ConfigError, NoSafeCut, RunError
from autodim.stages.search import search
from autodim.stages.verify import damages
from autodim.training.interrupt import Interrupted
from autodim.training.progress import Progress

CHOICES = {
    "data.min_count": ("1", "3", "12"),
    "model.hidden": ("[8]", "[4]"),
    "pretrain.batch": ("128", "64"),
    "prune.strategy": ("spectral", "sseds", "fourth_root"),
    "prune.budget": ("{share: 0.4}", "{share: 0.2}", "{max_auc_drop: 0.2}", "{max_loss_increase: 0.5}"),
    "prune.precision": ("fp32", "fp16", "int8"),
    "prune.max_dim": ("8", "4"),
    "retrain.mode": ("warm", "cold", "none"),
    "retrain.distill": ("0", "0.5"),
    "seed": ("0", "1"),
}
SHORT = tuple(f"{s}.{k}=1" for s in ("pretrain", "retrain") for k in ("epochs", "evals_per_epoch"))
STAGES = (None, None, None, ("prepare",), ("pretrain",), ("prune",), ("retrain", "evaluate"))
REFUSED = (RunError, ConfigError, BudgetError, NoSafeCut)


def left(run):
    """What a folder ends with; not every search trains or cuts."""
    return outcome(run, [name for name in OUTCOME if (run / name).is_file()])


def interrupted(config, seconds):
    """A search that a signal stops, if it takes so long; a signal before or after it does nothing."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    timer = threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        search(config, Progress("quiet"))
    except (Interrupted, *REFUSED):
        pass
    finally:
        timer.join()
        signal.signal(signal.SIGTERM, before)


def walk(folder, seed, steps):
    """Random commands in one folder; how many different settings were compared with a fresh one."""
    choose = random.Random(seed)
    log = folder / "clicks.csv"
    tiny_frame().head(900).to_csv(log, index=False)
    settings = {key: values[0] for key, values in CHOICES.items()}
    fresh, done = {}, []

    def config(run):
        return tiny_config(log, run, *SHORT, *(f"{k}={v}" for k, v in settings.items()))

    for _ in range(steps):
        for _ in range(choose.choice((0, 1, 1, 2))):
            key = choose.choice(list(settings))
            settings[key] = choose.choice(CHOICES[key])
            done.append(f"{key}={settings[key]}")
        if settings["retrain.mode"] == "none":
            settings["retrain.distill"] = "0"  # it would be refused
        if choose.random() < 0.3:
            os.utime(log, (choose.randrange(10**9),) * 2)
            done.append("the log is written anew")
        if choose.random() < 0.3:
            interrupted(config(folder / "run"), choose.uniform(0.05, 1.2))
            done.append("signal")
        stages, outcome = choose.choice(STAGES), "search"
        if stages is not None:
            done.append(stages[0])
            try:
                search(config(folder / "run"), Progress("quiet"), stages)
            except REFUSED:
                done.append("refused")
        try:
            search(config(folder / "run"), Progress("quiet"))
        except (BudgetError, NoSafeCut) as error:
            outcome = type(error).__name__
        done.append(outcome)
        if outcome == "search":
            key = str(settings)
            if key not in fresh:
                fresh[key] = left(search(config(folder / f"fresh-{len(fresh)}"), Progress("quiet")).folder)
            assert left(folder / "run") == fresh[key], done
            assert not damages(folder / "run")[1], done
    return len(fresh)


def test_a_walk_ends_as_a_fresh_folder(tmp_path):
    assert walk(tmp_path, seed=5, steps=6) > 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_many_walks_end_as_fresh_folders(tmp_path, seed):
    assert walk(tmp_path, seed, steps=14) > 1
