"""How much AUC each slot carries: one evaluation a slot."""

from __future__ import annotations

from autodim.stages.edits import Edit, constant, edited_aucs
from autodim.stages.evidence.question import Question, kept


def mask_auc(question: Question) -> dict[str, float]:
    """Per slot the drop of AUC when it reads as its mean, on the scored rows (METHODS 1.3); negative: it does harm.

    Blocks of rows are masked each for its own ids, under the blocks' names.

    Cost: one evaluation a slot (a block), and one of the whole network.
    """
    problem = question.problem
    slots = [s for c in problem.limits.values() for s in c.slots]
    places = dict(zip(slots, [p for own in question.places.values() for p in own], strict=True))
    settings = question.run.config.prune

    def work(_: object) -> dict[str, float]:
        edits: list[Edit] = [{}, *({places[s]: constant(question.means[s])} for s in slots)]
        base, *found = edited_aucs(
            question.network,
            question.log.part(settings.on),
            edits,
            question.session,
            "mask_auc",
            settings.rows,
            question.log.tasks,
        )
        return dict(zip(slots, (base - value for value in found), strict=True))

    return kept(question, "mask_auc", question.rows_key(), work)
