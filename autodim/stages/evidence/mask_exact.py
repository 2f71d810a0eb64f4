"""What each dimension is worth, by brute force: the oracle of the one-shot scores."""

from __future__ import annotations

import numpy as np
import torch

from autodim.dimension.scores import Floats
from autodim.stages.edits import Edit, edited_losses, masked
from autodim.stages.evidence.question import Question, kept
from autodim.stages.importance import importance


def mask_exact(question: Question) -> dict[str, Floats]:
    """Per table D numbers: how much the mean loss falls by having each dimension (negative: it does harm); of several
    tasks the sum of theirs, each times its importance.

    SSEDS (arXiv 2204.03281), equation 4, on the scored rows; slots that share a table lose the dimension together,
    since they are cut together; blocks of rows lose it each for its own ids.

    The same numbers as `dimension.oracle.mask_exact` gives, one lookup for all masks.

    Cost: tables x D evaluations of the model, one lookup; `prune.rows` bounds the rows. The cost is said first.
    """
    settings = question.run.config.prune
    places = question.places
    common = question.problem.common
    factors = importance(question.run.config, question.log)
    key = question.rows_key() | ({} if set(factors.values()) <= {1.0} else {"tasks": factors})

    def work(_: object) -> dict[str, list[float]]:
        masks = 1 - torch.eye(common)  # one dimension gone in each row
        edits: list[Edit] = [{}]
        edits += [{p: masked(m) for p in places[t]} for t in places for m in masks]
        losses = edited_losses(
            question.network,
            question.log.part(settings.on),
            edits,
            question.session,
            "mask_exact",
            settings.rows,
            question.log.tasks,
            factors,
        ).numpy()
        rise = (losses[1:] - losses[0]).reshape(len(places), common)
        return {t: row.tolist() for t, row in zip(places, rise, strict=True)}

    return {t: np.array(v) for t, v in kept(question, "mask_exact", key, work).items()}
