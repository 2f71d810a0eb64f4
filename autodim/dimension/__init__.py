"""The product: how wide each embedding table should be, within a budget.

The story, in the order in which things happen (each line one file):

    budget.py      "25% params" -> a number of parameters, bytes or dims that may be spent
    limits.py      min_dim, max_dim, fixed, multiple_of, zero -> the widths that each table may get, and their costs
    problem.py     slots, tables, costs, limits and settings in one frozen value
    saliency.py    slot vectors and their gradients -> S x D scores (needs torch)
    spectral.py    slot vectors and the logits' gradients -> moments of each slot (needs torch)
    moments.py     means, covariance and curvature of a slot, and the loss change that they predict for any cut
    factor.py      moments -> the best encoder, decoder and bias of a table at every rank
    statistics.py  what strategies may know of the trained model: scores, magnitudes, halves
    strategies/    (problem, budget, statistics) -> allocation; one method a file
    exact.py       the best allocation of a small problem, by dynamic programming
    rounding.py    what fewer bits a number take from the worth of dimensions
    allocate.py    the allocator that all strategies use: exact, most gain per cost, or best first
    allocation.py  the artefact: widths, kept dimensions, costs, scores; `widths.yaml`
    oracle.py      brute-force scores, to judge the one-shot ones
    api.py         `allocate(...)` without the pipeline

Every strategy keeps four promises: it never exceeds the budget; its predicted loss never rises with the budget
(strategies that predict one: sseds, magnitude, random, spectral, spectral_uniform); it does not depend on the order of
the slots; it is deterministic given its seed.

Letters: S slots, D common width, n rows of a table, d or w its width.
"""
