"""The writer and the reader: complete or absent, damage is named, one owner."""

import os
import subprocess
import sys

import pytest

from autodim import artifact
from autodim.errors import RunError


def write(target):
    with artifact.fresh_directory(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "data").write_bytes(b"0123456789" * 100)
        (folder / "about.json").write_text("{}")


def test_every_flipped_byte_and_cut_tail_is_found(tmp_path):
    write(tmp_path / "a")
    path = tmp_path / "a" / "sub" / "data"
    good = path.read_bytes()
    for position in range(0, len(good), 97):
        bad = bytearray(good)
        bad[position] ^= 1
        path.write_bytes(bad)
        with pytest.raises(RunError, match="sub/data"):
            artifact.verify(tmp_path / "a")
    path.write_bytes(good[:-1])
    with pytest.raises(RunError, match="999 bytes, expected 1000"):
        artifact.verify(tmp_path / "a")
    path.write_bytes(good)
    artifact.verify(tmp_path / "a")
    path.unlink()
    assert not artifact.is_valid(tmp_path / "a")


def test_a_failed_writer_leaves_what_was_there(tmp_path):
    write(tmp_path / "a")
    before = artifact.fingerprint(tmp_path / "a")
    with pytest.raises(RunError, match="could not be written"), artifact.fresh_directory(tmp_path / "a") as folder:
        (folder / "x").write_text("new")
        raise OSError(28, "No space left on device")
    assert artifact.fingerprint(tmp_path / "a") == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    write(tmp_path / "a")
    os.rename(tmp_path / "a", tmp_path / ".tmp-old-1-a")
    with pytest.raises(KeyError), artifact.fresh_directory(tmp_path / "a"):
        raise KeyError
    artifact.verify(tmp_path / "a")


def test_links_and_devices_are_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="link"):
        artifact.write_text(tmp_path / "link", "x")
    with pytest.raises(RunError, match="device"):
        write(artifact.Path("/dev/null"))


def test_one_owner_and_no_stale_lock_after_kill(tmp_path):
    code = "import sys, time, pathlib, autodim.artifact as a; l = a.Lock(pathlib.Path(sys.argv[1])); "
    code += "print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(RunError, match=f"process {holder.pid}"):
        artifact.Lock(tmp_path)
    holder.kill()
    holder.wait()
    with artifact.Lock(tmp_path):
        pass
