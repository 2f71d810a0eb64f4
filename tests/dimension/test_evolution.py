"""The evolution over weights: it finds, it repeats, and the order of tables does not matter."""

import numpy as np

from autodim.dimension.evolution import Plan, evolve, random_weights

TABLES = ["user", "item", "zip"]
GOAL = {"user": 0.9, "item": 0.1, "zip": 0.4}


def fitness(candidates):
    return [-sum((np.log(w[t]) - np.log(GOAL[t])) ** 2 for t in TABLES) for w in candidates]


def test_it_comes_closer_each_generation_and_repeats():
    values = [evolve(fitness, TABLES, 16, Plan(12, generations), 3)[1] for generations in (1, 5, 40)]
    assert values[0] < values[1] < values[2] and values[2] > -0.2
    best, value = evolve(fitness, TABLES, 16, Plan(12, 5), 3)
    assert (best, value) == evolve(fitness, TABLES[::-1], 16, Plan(12, 5), 3)
    assert evolve(fitness, TABLES, 16, Plan(12, 5), 4)[0] != best


def test_the_start_is_never_lost():
    assert evolve(fitness, TABLES, 16, Plan(2, 3), 0, [GOAL])[1] == 0


def test_a_draw_is_of_the_tables_name_alone():
    assert random_weights(1, 2, ["user"], 16)["user"] == random_weights(1, 2, TABLES, 16)["user"]
    drawn = [random_weights(1, k, TABLES, 16)["item"] for k in range(200)]
    assert 1 / 16 <= min(drawn) < 0.08 and 0.9 < max(drawn) <= 1
