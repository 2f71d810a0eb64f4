"""The parts of a guessed config that come from the log's size and name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from autodim.data.infer.sample import Sample
from autodim.data.infer.words import scalar

COLUMN = 58  # where reasons begin


def reason(text: str, why: str) -> str:
    """A line and, beside it, the reason; nothing in a name can end the comment."""
    return f"{text:<{COLUMN}}  # {safe(why)}"


def top(path: str, target: str, sample: Sample) -> list[str]:
    """The lines above `data`."""
    name = shlex.quote(target)
    seen = "all" if sample.whole else f"a sample of {sample.table.num_rows:,}, first and spread, of about"
    # after the config and not after the log: two configs of one log are two runs
    run = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(target).stem).strip("_") or "log"
    return [
        safe(f"# autodim search {name} --dry-run"),
        safe(f"# autodim search {name}"),
        "#",
        f"# Guessed by `autodim init` from {seen} {sample.rows:,} rows;",
        "# the reason stands beside each guess. Correct what is wrong: `autodim cp template` is the manual.",
        "",
        f"description: {scalar(f'guessed from {Path(path).name}'[:150])}",
        f"run: runs/{run}",
        "seed: 0",
        "",
    ]


def safe(text: str) -> str:
    """Text without control characters, for comments and terminals."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def training(sample: Sample, tasks: int = 1) -> list[str]:
    """The sections below `data`: a small log gets small batches and a narrow model; several labels share by MMoE."""
    rows = sample.rows
    batch = next(
        (b for limit, b in ((20_000, 256), (100_000, 512), (1_000_000, 1024), (50_000_000, 2048)) if rows < limit), 4096
    )
    width, hidden = (8, "[64, 32]") if rows < 100_000 else (16, "[64, 32]" if rows < 5_000_000 else "[400, 400]")
    epochs = 10 if rows < 10_000_000 else 3
    size = f"for about {rows:,} rows" if not sample.whole else f"for {rows:,} rows"
    train = [
        reason(f"  batch: {batch}", size),
        reason(f"  epochs: {epochs}", "at most; it stops when valid gets no better"),
    ]
    return [
        "model:",
        "  name: deepfm" if tasks == 1 else reason("  name: mmoe", "several labels; see `autodim ls models`"),
        reason(f"  width: {width}", f"for every slot at first, {size}; the search cuts it down"),
        f"  hidden: {hidden}" if tasks == 1 else "  sharing: {experts: 8, expert_hidden: [32], towers: [16]}",
        "",
        "pretrain:",
        *train,
        "",
        "prune:",
        "  strategy: spectral",
        reason("  budget: {unit: params, share: 0.25}", "of what the uniform model spends on embeddings"),
        "",
        "retrain:",
        "  mode: warm",
        *train,
    ]
