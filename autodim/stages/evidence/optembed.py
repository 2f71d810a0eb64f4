"""A supernet of random prefix widths, and an evolution over widths at the budget that it judges (OptEmbed)."""

from __future__ import annotations

import shutil

import torch

from autodim import artifact
from autodim.dimension.evolution import Plan, Weights, evolve
from autodim.dimension.strategies.assemble import by_weights
from autodim.embedding.layout import uniform_layout
from autodim.embedding.tables import Tables
from autodim.models import build_model, model_class
from autodim.stages.edits import Edit, edited_aucs, masked
from autodim.stages.evidence.question import Question, kept
from autodim.stages.pretrain import train_network
from autodim.training.checkpoints import load_tensors, save_tensors
from autodim.training.prefix import PrefixNetwork, prefix_masks
from autodim.training.seeds import derive, generator


def optembed(question: Question) -> Weights:
    """Per table the weight of the fittest candidate: widths at the budget are its multiples.

    Fitness is the supernet's AUC on the scored rows (`prune.on`, `prune.rows`) with each table at the prefix that the
    candidate's widths name. Budgets share the supernet.

    Cost: one training (resumed after an interruption), and about `population (1 + generations / 2)` evaluations.
    """
    config = question.run.config
    settings = config.prune.optembed
    seed = derive(question.problem.seed, "optembed")
    training = {
        "model": question.problem.source,
        "train": config.pretrain.model_dump(mode="json"),
        "epochs": settings.epochs,
        "seed": seed,
    }
    problem, budget = question.problem, question.budget
    columns = question.log.part(config.prune.on)

    def widths(weights: Weights) -> dict[str, int]:
        chosen = by_weights(problem, weights, budget)
        return {t: int(c.widths[p]) for (t, c), p in zip(problem.limits.items(), chosen, strict=True)}

    def work(_: object) -> Weights:
        network = supernet(question, training, seed)
        seen: dict[tuple[int, ...], float] = {}

        def fitness(candidates: list[Weights]) -> list[float]:
            states = [tuple(widths(w)[t] for t in sorted(problem.limits)) for w in candidates]
            new = sorted({s for s in states if s not in seen})
            edits = [_edit(question, dict(zip(sorted(problem.limits), s, strict=True))) for s in new]
            title = f"optembed: {len(seen):,} candidates seen"
            rows, tasks = config.prune.rows, question.log.tasks
            found = edited_aucs(network, columns, edits, question.session, title, rows, tasks) if new else []
            seen.update(zip(new, found, strict=True))
            return [seen[s] for s in states]

        plan = Plan(settings.population, settings.generations)
        even = dict.fromkeys(problem.limits, 1.0)
        best, value = evolve(fitness, list(problem.limits), problem.common, plan, seed, [even])
        question.session.progress.line(f"optembed: {len(seen):,} candidates, the best AUC of the supernet {value:.4f}")
        return best

    key = {**training, **question.rows_key(), **question.budget_key(), "search": settings.model_dump(mode="json")}
    return {t: float(v) for t, v in kept(question, "optembed", key, work).items()}


def supernet(question: Question, key: dict[str, object], seed: int) -> PrefixNetwork:
    """The trained supernet; made once for all budgets."""
    config, log, session = question.run.config, question.log, question.session
    folder = question.run.stage("pretrain") / f"supernet-{artifact.digest({'format': 1, **key})[:16]}"
    tables = Tables(
        uniform_layout(log.slots, log.tables, config.model.width), linear=model_class(config.model.name).uses_linear
    )
    tables.initialise(config.model.init_std, generator(seed, "tables"))
    numeric = log.part("train").numeric.shape[1]
    model = build_model(config.model, len(log.slots), numeric, len(log.labels), derive(seed, "model"))
    network = PrefixNetwork(tables, model).to(session.device)
    if not artifact.is_valid(folder):
        train = config.pretrain.model_copy(update={"epochs": config.prune.optembed.epochs})
        desk = folder.with_name(folder.name + ".work") / "supernet"
        desk.mkdir(parents=True, exist_ok=True)
        session.progress.line("optembed: one training at random prefix widths")
        train_network(network, log, train, seed, desk, session)
        with artifact.fresh_directory(folder) as temporary:
            save_tensors(temporary / "network.safetensors", network.state())
        shutil.rmtree(desk.parent)
    network.load_state(load_tensors(folder / "network.safetensors"))
    return network


def _edit(question: Question, widths: dict[str, int]) -> Edit:
    masks = prefix_masks(torch.tensor(list(widths.values())), question.problem.common)
    return {p: masked(m) for t, m in zip(widths, masks, strict=True) for p in question.places[t]}
