"""Starts a worker per variant, asks them in turn, and puts the answers together. Torch-free."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autodim.bench import peers
from autodim.bench.peers import PEERS
from autodim.bench.variants import HIDDEN, MODELS, Variant
from autodim.bench.work import Rates, work
from autodim.errors import RunError

CROSS = 3


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        log: what workers read: {"kind": "arrays" or "run", "path": ...}.
        device: cpu or cuda. threads: of each worker; only one works at a time.
        repeats: rounds over all variants; medians are over them.
        seconds: about what one variant takes of a round, for training; inference takes half.
        python: of the peers' environment.
    """

    log: dict[str, str]
    device: str
    threads: int
    repeats: int = 7
    seconds: float = 1.0
    python: str | None = None


@dataclass
class Result:
    """What was measured of one variant; `skip` says why there is nothing."""

    variant: Variant
    facts: dict[str, Any] = field(default_factory=dict)
    train: list[float] = field(default_factory=list)
    infer: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    skip: str = ""

    def to_json(self, rates: Rates) -> dict[str, Any]:
        """One JSON row: medians, all repeats, the limit and the shares of it."""
        row: dict[str, Any] = {"variant": self.variant.to_json(), "name": self.variant.name}
        if self.skip:
            return {**row, "skip": self.skip}
        row |= {"facts": self.facts, "memory": self.memory, "parts": self.parts}
        for name, values in (("train", self.train), ("infer", self.infer)):
            median = statistics.median(values)
            row[name] = {"samples_per_second": median, "repeats": values}
            if "widths" in self.facts and self.variant.model in MODELS:
                least = work(
                    self.variant.model, self.facts["widths"], self.variant.width, self.facts["numeric"], HIDDEN, CROSS
                )
                limit = least.limit(rates, name == "train", self.variant.bf16)
                row[name] |= {"limit": limit, "share": median / limit}
        return row


class Worker:
    """One variant's process."""

    def __init__(self, result: Result, settings: Settings, folder: Path):
        self.result, self.settings = result, settings
        variant = result.variant
        spec = folder / "spec.json"
        folder.mkdir(parents=True)
        spec.write_text(
            json.dumps(
                {
                    "variant": variant.to_json(),
                    "log": settings.log,
                    "device": settings.device,
                    "threads": settings.threads,
                    "hidden": list(HIDDEN),
                    "cross": CROSS,
                }
            )
        )
        environment = os.environ | {"OMP_NUM_THREADS": str(settings.threads)}
        if variant.system == "autodim":
            command = [sys.executable, "-m", "autodim.bench.worker", str(spec)]
            root = str(Path(__file__).parents[2])
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        else:
            assert settings.python is not None
            command = [settings.python, str(Path(peers.__file__).parent / PEERS[variant.system]), str(spec)]
            # the peer is measured as its own environment has it
            environment = {k: v for k, v in environment.items() if not k.startswith("PYTHON")}
        self.errors = open(folder / "stderr.txt", "w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment
        )
        first = self._read()
        if "skip" in first:
            result.skip = first["skip"]
        else:
            result.facts = first["ready"]

    def ask(self, do: str, **keys: Any) -> dict[str, Any]:
        """One request and its answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **keys}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self._read()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            last = self.errors.read().strip().splitlines()[-1:] or ["no message"]
            return {"skip": f"its process ended with code {code}: {last[0]}"}
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


def run(variants: Sequence[Variant], settings: Settings, tell: Callable[[str], None]) -> list[Result]:
    """Measure all variants: those of one model, width and batch at the same time, in turn; then the next.

    A worker that fails is left out with its reason.

    Raises:
        RunError: no variant of autodim could be measured.
    """
    results = [Result(v) for v in variants]
    groups: dict[tuple[str, int, int], list[Result]] = {}
    for result in results:
        groups.setdefault((result.variant.model, result.variant.width, result.variant.batch), []).append(result)
    for (model, width, batch), group in groups.items():
        tell(f"{model} {width}, batch {batch}: {len(group)} variants, {settings.repeats} rounds")
        _measure(group, settings)
    ours = [r for r in results if r.variant.system == "autodim"]
    if ours and all(r.skip for r in ours):
        raise RunError(f"nothing could be measured: {ours[0].skip}; expected at least one variant that runs")
    return results


def _measure(group: Sequence[Result], settings: Settings) -> None:
    """Start a worker each, ask them in turn, end them. Memory must hold all tables of the group at once."""
    with tempfile.TemporaryDirectory(prefix="autodim-bench-") as folder:
        workers: list[Worker] = []
        try:
            for k, result in enumerate(group):
                workers.append(Worker(result, settings, Path(folder) / str(k)))
            steps = {id(w): _calibrate(w, settings.seconds) for w in _alive(workers)}
            for _ in range(settings.repeats):
                for worker in _alive(workers):
                    _round(worker, steps[id(worker)])
            for worker in _alive(workers):
                worker.result.memory = worker.ask("memory")
                if worker.result.variant.system == "autodim":
                    worker.result.parts = worker.ask("parts", steps=max(3, steps[id(worker)]["train"]))
        finally:
            for worker in workers:
                worker.close()


def _round(worker: Worker, steps: dict[str, int]) -> None:
    for name, values in (("train", worker.result.train), ("infer", worker.result.infer)):
        answer = worker.ask(name, steps=steps[name])
        if "seconds" not in answer:
            worker.result.skip = answer["skip"]
            return
        values.append(steps[name] * worker.result.variant.batch / answer["seconds"])


def _alive(workers: Sequence[Worker]) -> Iterator[Worker]:
    return (w for w in workers if not w.result.skip)


def _calibrate(worker: Worker, seconds: float) -> dict[str, int]:
    """Warm up, and how many steps take about `seconds`."""
    found = {}
    for name, share in (("train", 1.0), ("infer", 0.5)):
        for warm in (2, 3):
            answer = worker.ask(name, steps=warm)
            if "seconds" not in answer:
                worker.result.skip = answer["skip"]
                return {"train": 1, "infer": 1}
        found[name] = max(2, round(share * seconds * warm / max(answer["seconds"], 1e-9)))
    return found
