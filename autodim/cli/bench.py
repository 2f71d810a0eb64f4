"""`autodim bench`: how fast this machine trains and scores, against its own limit and against other libraries."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from autodim.cli.common import Json, Quiet, print_json

RunOption = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="a run folder whose log is used; default: a Criteo-shaped one")
]


def bench(
    run: RunOption = None,
    models: Annotated[
        str, typer.Option("--models", help="of fm, deepfm, dnn, dcnv2; several tasks: single, shared_bottom, mmoe, ...")
    ] = "fm,deepfm",
    widths: Annotated[str, typer.Option("--widths", help="D, the uniform width")] = "16",
    batches: Annotated[str, typer.Option("--batches", help="rows of a batch")] = "8192",
    shares: Annotated[str, typer.Option("--shares", help="1: uniform; 0.125: pruned to it")] = "1",
    unit: Annotated[str, typer.Option("--unit", help="of the shares: params or dims")] = "params",
    optimizers: Annotated[
        str, typer.Option("--optimizers", help="of the tables: adagrad, rowwise_adagrad, lazy_adam")
    ] = "rowwise_adagrad",
    methods: Annotated[
        str,
        typer.Option(
            "--methods", help="of none, adagrad, clippy_adagrad, clippy_adam, norm, agc, cowclip, sam, asam, helen"
        ),
    ] = "none",
    bf16: Annotated[bool, typer.Option("--bf16", help="also with the dense part in bfloat16")] = False,
    scales: Annotated[str, typer.Option("--scales", help="tables with so many times the rows, same unique rows")] = "1",
    tasks: Annotated[int, typer.Option("--tasks", help="labels of the synthetic log")] = 1,
    weightings: Annotated[
        str, typer.Option("--weightings", help="with several tasks: uniform,pcgrad,mgda/10 (every 10 steps), ...")
    ] = "uniform",
    device: Annotated[str, typer.Option("--device", help="cpu or cuda")] = "cpu",
    threads: Annotated[int | None, typer.Option("--threads", help="of the CPU; default: all cores")] = None,
    rows: Annotated[int, typer.Option("--rows", help="of the synthetic log")] = 400_000,
    repeats: Annotated[int, typer.Option("--repeats", help="rounds over all variants; medians are shown")] = 7,
    seconds: Annotated[float, typer.Option("--seconds", help="of a variant in a round, about")] = 1.0,
    peers: Annotated[str | None, typer.Option("--peers", help="python of an environment that has the peers")] = None,
    against: Annotated[
        str, typer.Option("--against", help="which peers: fuxictr, deepctr-torch, torchrec")
    ] = "fuxictr,deepctr-torch,torchrec",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure training and inference speed, memory, and the share of what this machine can do."""
    from autodim.bench.variants import METHODS, MODELS, OPTIMIZERS, SHARED, WEIGHTINGS, Variant

    names = _choices("--models", models, (*MODELS, *SHARED))
    rules = _choices("--optimizers", optimizers, OPTIMIZERS)
    stabilisers = _choices("--methods", methods, tuple(METHODS))
    sizes = _numbers("--widths", widths, int), _numbers("--batches", batches, int), _numbers("--scales", scales, int)
    cuts = _numbers("--shares", shares, float)
    _choices("--unit", unit, ("params", "dims"))
    _positive("--tasks", tasks)
    tasks = _tasks(tasks, run)
    mixtures = _weightings(weightings, WEIGHTINGS, tasks)
    _tasks_fit(names, SHARED, tasks)
    _choices("--device", device, ("cpu", "cuda"))
    _positive("--rows", rows)
    _positive("--repeats", repeats)
    _positive("--seconds", seconds)
    variants: list[Variant] = []
    for model, width, batch, scale in itertools.product(names, *sizes):
        rows_of = itertools.product(cuts, rules, (False, True) if bf16 else (False,), mixtures, stabilisers)
        variants += [
            Variant("autodim", model, width, batch, share, unit, rule, low, scale, tasks, mixture, method)
            for share, rule, low, mixture, method in rows_of
        ]
        if peers and model in MODELS:
            from autodim.bench.peers import PEERS

            for peer in _choices("--against", against, tuple(PEERS)):
                variants.append(Variant(peer, model, width, batch, scale=scale))
    result = _measure(run, variants, device, threads, rows, repeats, seconds, peers, as_json or quiet)
    if as_json:
        print_json(result)
        return
    from rich.console import Console

    from autodim.bench.table import number, parts_table, speed_table, weighting_costs

    console = Console(width=None if sys.stdout.isatty() else 160)
    rates = result["machine"]
    console.print(
        f"{result['threads']} threads on {result['device']}: copy {rates['copy'] / 1e9:.1f} GB/s, matrices "
        f"{rates['fp32'] / 1e9:.0f} GFLOP/s in fp32, {rates['bf16'] / 1e9:.0f} in bf16",
        highlight=False,
    )
    console.print(speed_table(result["rows"]), parts_table(result["rows"]), sep="\n\n")
    for line in weighting_costs(result["rows"]):
        console.print(line, highlight=False)
    found = [r for r in result["rows"] if "limit" in r.get("train", {})]
    if found:
        limits = {f"{r['name']}{' bf16' if r['variant']['bf16'] else ''}": number(r["train"]["limit"]) for r in found}
        console.print("limit of training: " + ", ".join(f"{k} {v}/s" for k, v in limits.items()), highlight=False)


def _measure(
    run: Path | None,
    variants: list[Any],
    device: str,
    threads: int | None,
    rows: int,
    repeats: int,
    seconds: float,
    peers: str | None,
    quiet: bool,
) -> dict[str, Any]:
    import tempfile
    from dataclasses import asdict

    from autodim.bench.machine import measure
    from autodim.bench.run import Settings
    from autodim.bench.run import run as measure_all
    from autodim.training.device import set_up

    torch_device = set_up(device, threads)
    import torch

    count = torch.get_num_threads()
    rates = measure(torch_device)
    with tempfile.TemporaryDirectory(prefix="autodim-bench-log-") as folder:
        log = _log(run, Path(folder), rows, max(v.tasks for v in variants))
        settings = Settings(log, device, count, repeats, seconds, peers)
        tell = (lambda text: None) if quiet else (lambda text: typer.echo(text, err=True))
        results = measure_all(variants, settings, tell)
    again = measure(torch_device)
    best = {k: max(v, asdict(again)[k]) for k, v in asdict(rates).items()}
    return {
        "device": torch.cuda.get_device_name(torch_device) if device == "cuda" else _processor(),
        "threads": count,
        "machine": best,
        "rows": [r.to_json(type(rates)(**best)) for r in results],
    }


def _log(run: Path | None, folder: Path, rows: int, tasks: int) -> dict[str, str]:
    if run is not None:
        from autodim.stages.predict import open_run

        return {"kind": "run", "path": str((open_run(run).need("prepare") / "log").resolve())}
    import numpy as np

    from autodim.bench import synthetic

    ids, labels = synthetic.criteo_shaped(rows, tasks=tasks)
    synthetic.write_arrays(folder, ids, np.zeros((rows, 0), np.float32), labels, synthetic.sizes())
    return {"kind": "arrays", "path": str(folder)}


def _processor() -> str:
    import platform

    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "cpu")
    except OSError:
        return platform.processor() or "cpu"


def _choices(flag: str, text: str, known: tuple[str, ...]) -> list[str]:
    from autodim.errors import ConfigError, did_you_mean

    names = [n.strip() for n in text.split(",") if n.strip()]
    for name in names:
        if name not in known:
            raise ConfigError(f"{flag}: found {name!r}{did_you_mean(name, list(known))}")
    if not names:
        raise ConfigError(f"{flag}: found nothing, expected some of {', '.join(known)}")
    return names


def _tasks(tasks: int, run: Path | None) -> int:
    """How many labels the log has: the synthetic one as many as asked for, a run's its own."""
    from autodim.errors import ConfigError

    if run is None:
        return tasks
    if tasks > 1:
        raise ConfigError("--tasks: has no effect on a run's own log; expected it without a run")
    from autodim.stages.predict import open_run
    from autodim.stages.prepare import open_log

    return len(open_log(open_run(run)).labels)


def _tasks_fit(models: list[str], shared: tuple[str, ...], tasks: int) -> None:
    from autodim.errors import ConfigError

    for name in models:
        if name in shared and name != "single" and tasks == 1:
            raise ConfigError(f"--models: found {name} with one task; expected --tasks 2 or more beside it")
        if name == "esmm" and tasks != 2:
            raise ConfigError(f"--models: found esmm with {tasks} tasks; expected --tasks 2, a click and a conversion")


def _weightings(text: str, known: tuple[str, ...], tasks: int) -> list[str]:
    """`NAME` or `NAME/k`."""
    from autodim.errors import ConfigError

    words = [w.strip() for w in text.split(",") if w.strip()]
    names = _choices("--weightings", ",".join(w.partition("/")[0] for w in words), known)
    if names != ["uniform"] and tasks == 1:
        raise ConfigError(f"--weightings: found {text!r} with one task; expected --tasks 2 or more beside it")
    for word in words:
        name, slash, every = word.partition("/")
        if slash and (not every.isdigit() or int(every) < 1 or name not in ("pcgrad", "gradvac", "mgda", "pe_ltr")):
            raise ConfigError(f"--weightings: found {word!r}, expected steps after a weighting by gradients: pcgrad/10")
    return words


def _numbers(flag: str, text: str, kind: type) -> list[Any]:
    from autodim.errors import ConfigError

    try:
        found = [kind(v) for v in text.split(",") if v.strip()]
    except ValueError as error:
        raise ConfigError(f"{flag}: found {text!r}, expected numbers separated by commas") from error
    for value in found:
        _positive(flag, value)
    if kind is float and any(v > 1 for v in found):
        raise ConfigError(f"{flag}: found {text!r}, expected shares above 0 and at most 1")
    if not found:
        raise ConfigError(f"{flag}: found nothing, expected numbers separated by commas")
    return found


def _positive(flag: str, value: float) -> None:
    from autodim.errors import ConfigError

    if not value > 0:
        raise ConfigError(f"{flag}: found {value:g}, expected a number above 0")
