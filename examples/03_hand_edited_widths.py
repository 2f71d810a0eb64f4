"""Widths are a file: export it, edit it by hand, train the model that it describes.

Shows the commands `search`, `export --format widths` and `retrain --widths`. The log is a planted one: generated, with
known true widths, which stand beside what was found.

    python examples/03_hand_edited_widths.py
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

FOLDER = Path(mkdtemp(prefix="autodim-"))
RUN = FOLDER / "run"
QUICK = [
    f"run={RUN}",
    "data.options={rows: 20000, slots: 5, width: 8}",
    "prune.budget.share=0.5",
    "model.width=8",
    "pretrain={batch: 512, epochs: 2, optimizer: {tables: {lr: 1e-2}}}",
    "retrain={batch: 512, epochs: 1, optimizer: {tables: {lr: 1e-2}}}",
]


def autodim(*words: str | Path) -> str:
    """`autodim ...` on a command line; returns what it prints."""
    command = [sys.executable, "-m", "autodim", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else sys.exit(done.stderr)


def line(printed: str) -> str:
    """What `search --json` and `evaluate --json` say, in short."""
    found = json.loads(printed)
    small = found["models"][-1]
    return f"{found['widths']}: test AUC {small['test'][0]['auc']:.4f}, {small['dims']} dimensions"


if __name__ == "__main__":
    found = line(autodim("search", "planted", *QUICK, "--json"))
    truth = json.loads((RUN / "data" / "log" / "log" / "truth.json").read_text())["slots"]
    print("true  ", {slot: about["width"] for slot, about in truth.items()})
    print("found ", found)

    # One line a slot under `widths:`; everything else in the file is recomputed, or may be left out.
    text = autodim("export", RUN, "--format", "widths")
    edited = FOLDER / "widths.yaml"
    edited.write_text(re.sub(r"(?m)^  s00: \d+$", "  s00: 0", text))

    # Warm from the same pretrained model; the widths that the run found itself are kept in RUN/prune.
    autodim("retrain", RUN, "--widths", edited, "--quiet")
    print("edited", line(autodim("evaluate", RUN, "--json")))
