"""One variant of autodim in a process of its own: `python -m autodim.bench.worker SPEC.json`.

Steps go through `Step`, `Order` and `Columns` as in a training run; nothing is reimplemented for the measurement.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autodim.bench.machine import synchronize
from autodim.bench.peers.protocol import reset_peak, serve, status
from autodim.bench.variants import HIDDEN, METHODS, Variant, layout_of, widths_of
from autodim.config.schema import ModelConfig, OptimizerConfig, WeightingConfig
from autodim.data.batch import Batch
from autodim.data.batches import Order
from autodim.data.columns import Columns
from autodim.data.encoded import EncodedLog
from autodim.embedding.grouping import early
from autodim.embedding.layout import Layout, Slot, Table, uniform_layout
from autodim.embedding.lookup import Lookup
from autodim.optim.build import build_rules
from autodim.stages.model_folder import build_network
from autodim.training.device import set_up
from autodim.training.evaluation import predict
from autodim.training.feed import Feed
from autodim.training.network import Network
from autodim.training.step import Step, Weighting
from autodim.weighting.build import build_weighting

PARTS = ("data", "lookup", "dense", "rows", "update")


def read_log(spec: dict[str, Any], scale: int) -> tuple[tuple[Slot, ...], tuple[Table, ...], Columns]:
    """The training part of a run folder's log, or a folder of arrays; scaled tables have their ids spread."""
    path = Path(spec["log"]["path"])
    if spec["log"]["kind"] == "run":
        log = EncodedLog.open(path)
        return log.slots, log.tables, log.part("train")
    rows = json.loads((path / "about.json").read_text())["rows"]
    names = [f"C{k}" for k in range(len(rows))]
    ids = torch.from_numpy(np.load(path / "ids.npy", mmap_mode="c"))
    columns = Columns(
        ids if scale == 1 else ids * scale,
        torch.from_numpy(np.load(path / "numeric.npy", mmap_mode="c")),
        torch.from_numpy(np.load(path / "labels.npy", mmap_mode="c")),
        one_hot_slots=tuple(names),
    )
    tables = tuple(Table(n, r * scale) for n, r in zip(names, rows, strict=True))
    return tuple(Slot(n, n) for n in names), tables, columns


class Measured:
    """A network, its step and its data; answers the protocol's requests."""

    def __init__(self, spec: dict[str, Any]):
        variant = self.variant = Variant(**spec["variant"])
        self.device = device = set_up(spec["device"], spec["threads"])
        self.cross = spec["cross"]
        slots, tables, columns = read_log(spec, variant.scale)
        if device.type == "cuda":
            columns = columns.to(device)
        self.columns = columns
        self.warm_up()
        reset_peak()
        self.before, self.mapped = status("VmRSS"), status("RssFile")
        layout = layout_of(variant, slots, tables)
        self.widths = widths_of(layout)
        self.network = self._network(variant, layout, columns.numeric.shape[1], columns.labels.shape[1])
        missing = bool(torch.isnan(columns.labels).any())
        self.order = Order(len(columns), variant.batch, seed=0)
        self.step = self._step(self.network, missing, self._weighting(self.network, columns.labels.shape[1]))
        # only whole batches, so that samples = steps x batch
        self.whole = max(1, len(columns) // variant.batch)
        self.position = 0
        prepare = early(self.network.tables, device)
        self.feed = Feed(columns, lambda p: self.order.rows(*divmod(p, self.whole)), 2**62, device, prepare=prepare)

    def warm_up(self) -> None:
        """A step of the same kind on a tiny table, so that code and the libraries' own buffers are not counted."""
        tiny = Variant(**{**self.variant.to_json(), "width": 4, "share": 1.0})
        slots, tables = (Slot("a", "a"), Slot("b", "b")), (Table("a", 8), Table("b", 8))
        network = self._network(tiny, uniform_layout(slots, tables, 4), 0, tiny.tasks)
        step = self._step(network, False)
        ids = torch.ones(256, 2, dtype=torch.int32, device=self.device)
        ones = torch.ones(256, tiny.tasks, device=self.device)
        step(Batch(ids, ones[:, :0], ones), 0)

    def _network(self, variant: Variant, layout: Layout, numeric: int, tasks: int) -> Network:
        model = ModelConfig(name=variant.model, width=variant.width, hidden=HIDDEN, cross_layers=self.cross)
        return build_network(model, layout, numeric, tasks, seed=0).to(self.device).train()

    def _step(self, network: Network, missing: bool, weighting: Weighting | None = None) -> Step:
        tables = {"name": self.variant.optimizer, "lr": 1e-2}
        rules = build_rules(OptimizerConfig(tables=tables, **METHODS[self.variant.method]), network)
        return Step(
            network,
            rules.optimizers,
            weighting,
            perturbation=rules.perturbation,
            clippers=rules.clippers,
            missing=missing,
            bf16=self.variant.bf16,
        )

    def _weighting(self, network: Network, tasks: int) -> Weighting | None:
        name, _, every = self.variant.weighting.partition("/")
        config = WeightingConfig(name=name, every=int(every or 1))
        steps = self.order.steps_per_epoch
        return build_weighting(config, network, [f"task {t}" for t in range(tasks)], steps_per_epoch=steps)

    def facts(self) -> dict[str, Any]:
        unique = self.network.tables.lookup(self._batch()).groups
        return {
            "optimizer": self.variant.optimizer,
            "widths": self.widths,
            "numeric": self.columns.numeric.shape[1],
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "unique": sum(len(g.unique.rows) for g in unique),
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu",
        }

    def train(self, steps: int) -> dict[str, float]:
        self.network.train()
        return {"seconds": self._timed(self._train, steps)}

    def infer(self, steps: int) -> dict[str, float]:
        rows = min(steps * self.variant.batch, len(self.columns))
        times = -(-steps * self.variant.batch // rows)
        part = Columns(self.columns.ids[:rows], self.columns.numeric[:rows], self.columns.labels[:rows])
        if self.columns.bags:
            part = replace(self.columns)  # bags cannot be cut cheaply: the whole part
            rows, times = len(part), 1
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.variant.bf16):
            seconds = self._timed(lambda: predict(self.network, part, self.device, self.variant.batch), times)
        return {"seconds": seconds * (steps * self.variant.batch) / (rows * times)}

    def parts(self, steps: int) -> dict[str, float]:
        """Seconds a step by part; what is in no other part is the dense forward and backward."""
        self.network.train()
        spent = dict.fromkeys(PARTS, 0.0)

        def clocked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                synchronize(self.device)
                began = time.perf_counter()
                out = work(*args, **kwargs)
                synchronize(self.device)
                spent[name] += time.perf_counter() - began
                return out

            return run

        tables, assign, batch = self.network.tables, Lookup.assign, self._batch
        updates = [o.step for o in self.step.optimizers]
        tables.lookup = clocked("lookup", tables.lookup)  # type: ignore[method-assign]
        Lookup.assign = clocked("rows", assign)  # type: ignore[method-assign]
        self._batch = clocked("data", batch)  # type: ignore[method-assign]
        for optimizer in self.step.optimizers:
            optimizer.step = clocked("update", optimizer.step)  # type: ignore[method-assign]
        try:
            total = self._timed(self._train, steps)
        finally:
            del tables.lookup
            Lookup.assign = assign  # type: ignore[method-assign]
            self._batch = batch  # type: ignore[method-assign]
            for optimizer, update in zip(self.step.optimizers, updates, strict=True):
                optimizer.step = update  # type: ignore[method-assign]
        spent["dense"] = total - sum(spent.values())
        return {name: seconds / steps for name, seconds in spent.items()}

    def memory(self) -> dict[str, int]:
        """Peak bytes since the data was opened, and what a training cannot do without (see `least`).

        Pages of the memory-mapped log are left out: they are the system's cache, which takes them back when it likes.
        """
        if self.device.type == "cuda":
            return {"peak": torch.cuda.max_memory_allocated(), "before": self.columns.nbytes, "least": self.least()}
        pages = max(0, status("RssFile") - self.mapped)
        return {"peak": status("VmHWM") - pages, "before": self.before, "least": self.least()}

    def least(self) -> int:
        """Bytes of parameters, optimizer state, and one batch's work: the slot vectors and their gradient, the
        unique rows' gradient (at most as large), activations of the dense layers and their gradients."""
        state = [
            v for o in self.step.optimizers for s in o.state.values() for v in s.values() if isinstance(v, torch.Tensor)
        ]
        fixed = sum(t.numel() * t.element_size() for t in [*self.network.parameters(), *state])
        linears = [m for m in self.network.modules() if isinstance(m, nn.Linear)]
        activations = sum(m.out_features for m in linears) + (HIDDEN[0] if self.variant.model != "fm" else 0)
        return fixed + 4 * self.variant.batch * (3 * sum(self.widths) + 2 * activations)

    def _batch(self) -> Any:
        return self.feed(self.position)

    def _train(self) -> None:
        batch = self._batch()
        self.step(batch, self.position)
        self.position += 1

    def _timed(self, one: Callable[[], Any], steps: int) -> float:
        synchronize(self.device)
        began = time.perf_counter()
        for _ in range(steps):
            one()
        synchronize(self.device)
        return time.perf_counter() - began


if __name__ == "__main__":
    serve(Measured)
