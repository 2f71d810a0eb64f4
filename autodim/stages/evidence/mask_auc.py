"""How much AUC each slot carries: one evaluation a slot."""

from __future__ import annotations

from autodim.stages.edits import Edit, constant, edited_aucs
from autodim.stages.evidence.question import Question, kept


def mask_auc(question: Question) -> dict[str, float]:
    """Per slot the drop of AUC when it reads as its mean, on the scored rows (METHODS 1.3); negative: it does harm.

    Cost: one evaluation a slot, and one of the whole network.
    """
    slots = question.network.tables.layout.slots
    settings = question.run.config.prune

    def work(_: object) -> dict[str, float]:
        edits: list[Edit] = [{}, *({i: constant(question.means[s.name])} for i, s in enumerate(slots))]
        base, *found = edited_aucs(
            question.network,
            question.log.part(settings.on),
            edits,
            question.session,
            "mask_auc",
            settings.rows,
            question.log.tasks,
        )
        return {s.name: base - value for s, value in zip(slots, found, strict=True)}

    return kept(question, "mask_auc", question.rows_key(), work)
