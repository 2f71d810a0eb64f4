"""A full or failing disk: one message with the path, nothing lost that was made, and the same command ends the same."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

import pytest
from conftest import outcome
from faults import Disk, watched
from tiny_runs import finished, small_config, walk

from autodim import artifact
from autodim.config.writer import to_yaml
from autodim.errors import RunError
from autodim.stages.run import FOLDERS, Run
from autodim.stages.verify import damages
from autodim.training.checkpoints import Checkpoints

CODES = (errno.ENOSPC, errno.EIO, errno.EACCES)


def operations(folder: Path) -> list[tuple[str, str]]:
    """What a whole road does to the disk."""
    with watched(Disk(folder)) as disk:
        walk(folder)
    return disk.done


def refuse(folder: Path, number: int, code: int, ever: bool) -> str:
    """Let one operation of a road fail, then walk it again on a sound disk; how the first walk ended."""
    ended = "survived"
    with watched(Disk(folder, number, code, ever)) as disk:
        try:
            walk(folder)
        except RunError as error:
            ended = "one message"
            assert str(folder) in str(error)
            assert "\n" not in str(error)
            assert "could not be" in str(error), error
            assert "bytes" in str(error)
    assert disk.failed, number
    if ended == "survived":
        # only what is of no consequence may fail unseen: the removal of what is no longer needed
        kinds = {kind for kind, path in disk.failed if "checkpoints" not in Path(path).name}
        assert kinds <= {"unlink", "rmdir"}, disk.failed
    run = Run(folder, small_config(folder))
    for stage in FOLDERS:  # nothing that was made is lost
        assert run.damage(stage) is None
    newest = [Checkpoints(path).latest() for path in folder.glob("*/checkpoints") if any(path.glob("step-*"))]
    assert None not in newest
    assert damages(folder)[1] == []
    walk(folder)
    assert outcome(folder) == outcome(finished())
    assert not list(folder.rglob(".tmp-*")), list(folder.rglob(".tmp-*"))
    return ended


def refuse_many(folder: Path, step: int, first: int, ever: bool) -> Counter[str]:
    done = operations(folder / "count")
    ends = Counter[str]()
    for k, number in enumerate(range(first, len(done), step)):
        ends[refuse(folder / f"try-{number}", number, CODES[k % len(CODES)], ever)] += 1
    return ends


def test_an_operation_that_fails_once_costs_a_message(tmp_path):
    assert refuse_many(tmp_path, step=29, first=3, ever=False)["one message"] >= 5


def test_a_disk_that_fails_for_ever_costs_a_message(tmp_path):
    assert refuse_many(tmp_path, step=61, first=7, ever=True)["one message"] >= 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ever", [False, True])
def test_every_operation_fails_in_turn(tmp_path, ever):
    ends = refuse_many(tmp_path, step=1, first=0, ever=ever)
    print(f"ever={ever}: {dict(ends)}")
    assert ends["one message"] > 200


def test_the_command_line_says_it_in_one_line_and_exits_with_5(tmp_path, monkeypatch, capsys):
    import sys

    from autodim.cli import main

    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(small_config(tmp_path / "run")))
    monkeypatch.setattr(sys, "argv", ["autodim", "search", str(config), "--quiet"])
    with watched(Disk(tmp_path / "run", 40, errno.ENOSPC)), pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 5
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "No space left on device" in said
    assert "run the same command again" in said


def test_c_code_that_writes_is_refused_too(tmp_path):
    """numpy and pyarrow write by themselves: the smallest file size that the system grants stops them for real."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for limit in (100, 700, 2000, 4000):
            folder = tmp_path / f"limit-{limit}"
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            try:
                with pytest.raises(RunError, match="could not be"):
                    walk(folder)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            walk(folder)
            assert outcome(folder) == outcome(finished())
    finally:
        signal.signal(signal.SIGXFSZ, handler)


def test_a_message_tells_a_full_disk_from_a_forbidden_one(tmp_path):
    full = artifact.disk_error(tmp_path / "x", 10, OSError(errno.ENOSPC, "No space left on device"))
    forbidden = artifact.disk_error(tmp_path / "x", 10, OSError(errno.EACCES, "Permission denied"))
    assert "free some space" in str(full)
    assert "permissions" in str(forbidden)
