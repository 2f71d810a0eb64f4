"""Architectures that share between tasks: (slot vectors, numeric columns) -> logits, B x T. One paper, one file.

They are models like those of `autodim.models` (the same face, so that cuts, retrains and saliency work on them as on
any other) and are chosen by the same key, `model.name`, with their options in `model.sharing`. Each reads the slot
vectors through one product for all its experts, gates and towers, so mixed tables fold their projections into it.

What goes in besides: `Front`, the shared input with the interactions that are asked for. What comes out besides logits:
`own_parameters()`, what belongs to one task; `last_shared()`; `representation()`, where tasks part; `gates()`, what
each task takes from which expert.

When to pick which:

- `shared_bottom`: one network, a tower a task. Cheapest, and right where tasks are related.
- `mmoe`: experts, and a gate a task that chooses among them; the usual first choice. `omoe`: one gate, its ablation.
- `ple`: experts of each task's own beside shared ones, in levels; the most robust where tasks disagree.
- `snr`: sub-networks whose connections are learnt and cut by a penalty; for many tasks.
- `esmm`: click and conversion over all rows.
- `single`: a network a task; with one label the reference of all comparisons.

A new architecture is one file with one class, one line in `ARCHITECTURES`, one test case.

Letters: B examples, S slots, D common width, n numeric columns, T tasks, E experts, H width of a layer.
"""

from __future__ import annotations

from autodim.models.base import Model
from autodim.multitask.esmm import ESMM
from autodim.multitask.mmoe import MMoE, OMoE
from autodim.multitask.ple import PLE
from autodim.multitask.shared_bottom import SharedBottom
from autodim.multitask.single import Single
from autodim.multitask.snr import SNR

ARCHITECTURES: dict[str, type[Model]] = {
    "single": Single,
    "shared_bottom": SharedBottom,
    "omoe": OMoE,
    "mmoe": MMoE,
    "snr": SNR,
    "ple": PLE,
    "esmm": ESMM,
}
