"""The safetensors file: bit-exact round trip, self-describing, and checked against the widths."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load

from autodim.dimension.allocation import Allocation, Entry
from autodim.embedding.layout import Slot
from autodim.errors import RunError
from autodim.export import weights

ENTRIES = (
    Entry("user", ("user",), 0, 7, 2, (0, 3), True, True),
    Entry("../x\n", ("../x\n",), 0, 3, 4),
    Entry("zip", ("zip",), 0, 5, 0, (), False, True),
    Entry("page", ("from", "to"), 0, 2, 4),
    Entry("page", ("from", "to"), 2, 6, 1, None, True),
)
ALLOCATION = Allocation("sseds", "params", 99, 90, 200, 4, ENTRIES, source="abc")


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    found = {n: torch.randn(s, generator=generator) for n, s in weights.expected_shapes(ALLOCATION).items()}
    return {**found, "linear/user": torch.zeros(7), "dense/mlp.0.weight": torch.randn(3, 8, generator=generator)}


def test_names_and_shapes() -> None:
    assert weights.expected_shapes(ALLOCATION) == {
        "tables/user": (7, 2),
        "projections/user": (2, 4),
        "biases/user": (4,),
        "tables/../x\n": (3, 4),
        "biases/zip": (4,),
        "tables/page[0:2]": (2, 4),
        "tables/page[2:6]": (4, 1),
        "projections/page[2:6]": (1, 4),
    }


def test_round_trip_is_exact_and_repeatable(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    data = weights.to_bytes(tensors, ALLOCATION)
    assert data == weights.to_bytes(dict(reversed(tensors.items())), ALLOCATION)
    weights.write(tmp_path / "w.safetensors", tensors, ALLOCATION)
    assert (tmp_path / "w.safetensors").read_bytes() == data
    loaded = load(data)
    assert set(loaded) == set(tensors)
    assert all(torch.equal(loaded[n], t) for n, t in tensors.items())


def test_a_reader_needs_only_the_file(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """The vector of user 3, rebuilt from names in the metadata, is row @ projection + bias."""
    path = tmp_path / "w.safetensors"
    weights.write(path, tensors, ALLOCATION, (Slot("user", "user", True, "sum"),), extra={"model": "fm"})
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["autodim"])
        block = next(b for b in about["blocks"] if "user" in b["slots"])
        row = file.get_tensor(block["table"])[3]
        vector = row @ file.get_tensor(block["projection"]) + file.get_tensor(block["biases"]["user"])
    expected = tensors["tables/user"][3] @ tensors["projections/user"] + tensors["biases/user"]
    assert torch.equal(vector, expected)
    assert about["pooling"] == {"user": "sum"}
    assert about["extra"] == {"model": "fm"}
    assert next(b for b in about["blocks"] if "zip" in b["slots"])["table"] is None


def test_views_of_one_buffer_and_other_types_are_stored_apart(tensors: dict[str, torch.Tensor]) -> None:
    buffer = torch.arange(28.0, requires_grad=True)
    tensors["tables/user"] = buffer.view(7, 4)[:, 1:3]
    tensors["linear/user"], tensors["dense/same"] = buffer[:7], buffer[:7]
    tensors["biases/user"] = torch.ones(4, dtype=torch.bfloat16)
    loaded = load(weights.to_bytes(tensors, ALLOCATION))
    assert torch.equal(loaded["tables/user"], buffer.detach().view(7, 4)[:, 1:3])
    assert torch.equal(loaded["linear/user"], torch.arange(7.0))
    assert loaded["biases/user"].dtype == torch.float32


def test_all_misfits_are_named_at_once(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["biases/zip"]
    tensors["tables/user"] = torch.zeros(7, 3)
    tensors["tables/zip"] = torch.zeros(5, 1)
    tensors["other"] = torch.zeros(1)
    with pytest.raises(RunError) as caught:
        weights.to_bytes(tensors, ALLOCATION)
    for part in (
        "biases/zip: missing",
        "tables/user: shape (7, 3), expected (7, 2)",
        "tables/zip: not expected",
        "other: names",
    ):
        assert part in str(caught.value)


def test_a_link_is_not_overwritten(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / "real").write_text("keep")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(RunError, match="link"):
        weights.write(tmp_path / "link", tensors, ALLOCATION)
    assert (tmp_path / "real").read_text() == "keep"
