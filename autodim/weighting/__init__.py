"""Weightings: T losses -> the gradients of one update. One paper, one file.

What goes in: the T losses of a batch, the tensors that gradients are asked at, the lookup. What comes out: one gradient
for each of them. A weighting is a filling of the step protocol (`autodim.training.step.Weighting`), so it composes with
second passes and clippers and knows nothing of them. A loss of exactly 0 says that the task is absent from the batch.

By the losses alone, at the price of the plain sum (a task's own parameters are weighted as well, as in the papers):

- `uniform`: the sum; hard to beat when losses are of one size. `static`: fixed weights.
- `decayed`: fixed weights that change by a factor an epoch, as in PLE.
- `uncertainty`: learned, less for noisy tasks; beware of tasks with a small loss.
- `dwa`: more for the tasks that have stopped falling.
- `gradnorm`: learned, until the tasks' gradients at the last shared layer are of one length.

By the gradients, through nothing but their T x T Gramian (`autodim.weighting.gramian`); a task's own parameters keep
their plain gradient:

- `pcgrad`: cuts out what points against another task. `gradvac`: turns gradients until they agree as usual.
- `mgda`: the shortest mixture; it favours small gradients. `pe_ltr`: the same above a least weight for every task.
- `paperec`: weights by example or group, learned on the norm at the shared representation; approximate.

The solvers (`pcgrad_weights(K)` and so on) are plain functions of a Gramian and need nothing else of autodim. A new
method by gradients is one file with one `Solver`, one line in `SOLVERS`, one test case.
"""

from __future__ import annotations

from autodim.weighting.dwa import DWA
from autodim.weighting.gradnorm import GradNorm
from autodim.weighting.gradvac import GradVac
from autodim.weighting.mgda import MGDA
from autodim.weighting.paperec import PAPERec
from autodim.weighting.pcgrad import PCGrad
from autodim.weighting.pe_ltr import PELTR
from autodim.weighting.scalar import Decayed, LossWeighting, Static, Uniform
from autodim.weighting.solver import Solver
from autodim.weighting.uncertainty import Uncertainty

LOSSES: dict[str, type[LossWeighting]] = {
    "uniform": Uniform,
    "static": Static,
    "decayed": Decayed,
    "uncertainty": Uncertainty,
    "dwa": DWA,
    "gradnorm": GradNorm,
}

SOLVERS: dict[str, type[Solver]] = {"pcgrad": PCGrad, "gradvac": GradVac, "mgda": MGDA, "pe_ltr": PELTR}

WEIGHTINGS: dict[str, type] = {**LOSSES, **SOLVERS, "paperec": PAPERec}
