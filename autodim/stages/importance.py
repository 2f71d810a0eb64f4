"""What the loss of each task counts in the sum of the tasks: in scores, in what is predicted and what is measured."""

from __future__ import annotations

from autodim.config.schema import Config
from autodim.data.encoded import EncodedLog
from autodim.stages.pretrain import log_turns


def importance(config: Config, log: EncodedLog) -> dict[str, float]:
    """The factor of each main task's mean loss (over the rows that have its label), by name.

    It is `prune.tasks.weights`; and of several logs that take turns in training also the share of the batches that have
    the task, since only these move the weights for it. Of one log all batches do. A single main task counts once.
    """
    names = {t: task.name for t, task in enumerate(log.tasks) if task.role == "main"}
    if len(names) < 2:
        return dict.fromkeys(names.values(), 1.0)
    turns = log_turns(config.pretrain, log, 0)
    shares = [1.0] * len(log.tasks) if turns is None else turns.shares()
    return {name: shares[t] * config.prune.tasks.weights.get(name, 1.0) for t, name in names.items()}
