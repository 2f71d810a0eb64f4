"""A pytest plugin: a CUDA device that is emulated on the CPU, so that what runs on a GPU is run without one.

    PYTHONPATH=tests python -m pytest -p emulated_cuda tests/test_gpu.py

Tensors of the device are `Cuda`, which hold a CPU tensor and compute on it. As on a GPU, an operator that is given a
tensor of the device and one of the CPU fails, a tensor that lies there cannot be pinned, and one of the CPU's random
generators is refused. Where the host would wait for the device (`item`, a copy to the host, a copy from memory that is
not pinned, a shape that depends on data) is counted, and the places are listed at the end.

Not emulated: the kernels (their numbers are the CPU's), which types they take, their speed, and memory. So a run here
says that devices are not mixed up, and nothing about the results of a GPU.

Needs a C++ compiler (once, about half a minute) and a build of torch without CUDA.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import subprocess
import tempfile
import traceback
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any


def _load() -> None:
    """Compile the hooks against torch's headers, once for its build, and load them before torch."""
    found = find_spec("torch")
    assert found is not None and found.origin is not None
    torch = Path(found.origin).parent
    stamp = int((torch / "lib" / "libtorch_cpu.so").stat().st_mtime)
    library = Path(tempfile.gettempdir()) / f"autodim_emulated_cuda_{stamp}.so"
    if not library.exists():
        include = [f"-I{torch / 'include'}", f"-I{torch / 'include/torch/csrc/api/include'}"]
        link = [f"-L{torch / 'lib'}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch / 'lib'}"]
        source = str(Path(__file__).with_suffix(".cpp"))
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            built = Path(folder) / "emulated.so"
            subprocess.run(
                ["g++", "-std=c++20", "-shared", "-fPIC", source, "-o", str(built), *include, *link], check=True
            )
            built.rename(library)
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


_load()

import torch  # noqa: E402 - after the hooks
from torch import Tensor, nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_flatten, tree_map  # noqa: E402

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
FEW = 8  # numbers that the host hands over with the launch itself
aten = torch.ops.aten
# operators that take tensors of both devices
MIXED = {
    aten.copy_.default,
    aten._to_copy.default,
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
waits: collections.Counter[str] = collections.Counter()


def wait(why: str) -> None:
    """Count one, at the innermost line of autodim."""
    own = [f for f in traceback.extract_stack() if "/autodim/" in f.filename and "/tests/" not in f.filename]
    at = f"{own[-1].filename.rpartition('/autodim/')[2]}:{own[-1].lineno}" if own else "a test"
    waits[f"{why} at {at}"] += 1


class Cuda(Tensor):
    """A tensor of the device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Cuda:
        options: dict[str, Any] = {"dtype": held.dtype, "device": GPU, "layout": held.layout}
        if held.layout == torch.strided:
            options |= {"strides": held.stride(), "storage_offset": held.storage_offset()}
        made: Cuda = Tensor._make_wrapper_subclass(cls, held.size(), **options)  # type: ignore[attr-defined]
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operator, args, kwargs or {})

    def tolist(self) -> Any:
        wait("tolist")
        return self.held.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Cuda({self.held})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied: Tensor = Cuda(self.held.detach().clone())
            is_parameter = isinstance(self, nn.Parameter)
            memo[id(self)] = nn.Parameter(copied, self.requires_grad) if is_parameter else copied
        found: Tensor = memo[id(self)]
        return found


def is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def check(
    operator: Any,
    args: Any,
    kwargs: dict[str, Any],
    there: list[Cuda],
    here: list[Tensor],
    others: list[Any],
    made_there: bool,
) -> None:
    """Raise as CUDA would, and count where it would wait."""
    if there and operator not in MIXED and (strays := [x for x in here if x.dim()]):
        shapes = [tuple(x.shape) for x in strays], [tuple(x.shape) for x in there]
        raise RuntimeError(f"{operator}: tensors of the CPU {shapes[0]} and of the device {shapes[1]}")
    if (there or made_there) and any(isinstance(x, torch.Generator) for x in others):
        raise RuntimeError(f"{operator}: a generator of the CPU for a tensor of the device")
    if "index" in operator.name() and operator in MIXED and there:
        if not isinstance(args[0], Cuda):
            raise RuntimeError(f"{operator}: a tensor of the CPU indexed by one of the device")
        if any(isinstance(i, Tensor) and i.dtype == torch.bool for i in args[1]):
            wait("an index of bool")
    told = operator is aten.repeat_interleave.Tensor and kwargs.get("output_size") is not None
    if WAITS & set(operator.tags) and operator not in MIXED and not told:
        wait(operator.name())


def compute(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operator on what the tensors hold; what is made of a tensor of the device lies there."""
    flat = tree_flatten((args, kwargs))[0]
    there = [x for x in flat if isinstance(x, Cuda)]
    here = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, Cuda)]
    target = kwargs.get("device")
    kwargs = {k: v for k, v in kwargs.items() if k != "pin_memory"}
    if not there and not is_gpu(target):
        return operator(*args, **kwargs)
    check(operator, args, kwargs, there, here, flat, is_gpu(target))
    held, options = tree_map(lambda x: x.held if isinstance(x, Cuda) else x, (args, kwargs))
    if is_gpu(target):
        options["device"] = CPU
    if operator is aten._to_copy.default:
        return moved(args[0], held[0], options, None if target is None else torch.device(target))
    if operator is aten.copy_.default:
        if isinstance(args[1], Cuda) and not isinstance(args[0], Cuda) and not (args[2:] and args[2]):
            wait("a copy to the host")
        operator(*held, **options)
        return args[0]
    known = {id(x.held): x for x in there} | {id(x): x for x in here}  # in place: the tensor that was given

    def there_too(x: Any) -> Any:
        return (known[id(x)] if id(x) in known else Cuda(x)) if isinstance(x, Tensor) else x

    return tree_map(there_too, operator(*held, **options))


def moved(given: Tensor, held: Tensor, options: dict[str, Any], target: torch.device | None) -> Tensor:
    """A copy on another device or of another type."""
    to_host = target is not None and target.type == "cpu"
    if isinstance(given, Cuda) and to_host and not options.get("non_blocking"):
        wait("a copy to the host")
    if not isinstance(given, Cuda) and given.numel() > FEW and not getattr(given, "pinned", False):
        wait("a copy of memory that is not pinned")
    kind = options.get("dtype") or held.dtype
    if held.layout == torch.sparse_coo:
        made = held.to(kind, copy=True)
    else:
        made = aten._to_copy.default(held, dtype=kind, memory_format=options.get("memory_format"))
    return made if to_host else Cuda(made)


class Emulate(TorchDispatchMode):
    """Sees what makes tensors out of nothing, too."""

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(operator, args, kwargs or {})


class Event:
    """`torch.cuda.Event`: everything has always been done."""

    def record(self, stream: Any = None) -> None:
        pass

    def synchronize(self) -> None:
        wait("an event")


class NoGrad(torch.no_grad):
    """`torch.inference_mode` without its own kind of tensors, which do not take a subclass's views."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__()


def pin(tensor: Tensor, device: Any = None) -> Tensor:
    if isinstance(tensor, Cuda):
        raise RuntimeError("cannot pin a tensor of the device; only dense CPU tensors can be pinned")
    copied = tensor.clone()
    copied.pinned = True  # type: ignore[attr-defined]
    return copied


def made_on_cpu_first(make: Any) -> Any:
    """`torch.tensor` of numbers makes memory before any operator is seen."""

    @functools.wraps(make)
    def wrapped(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if isinstance(data, Cuda):
            return data.to(device or GPU, kwargs.get("dtype") or data.dtype)
        made: Tensor = make(data, *args, **kwargs)
        return made if device is None else made.to(device)

    return wrapped


def lists_there(use: Any) -> Any:
    """Lists of indices become tensors of the device before any operator is seen; on a GPU the host waits for that."""

    @functools.wraps(use)
    def wrapped(self: Tensor, index: Any, *value: Any) -> Any:
        def there(one: Any) -> Any:
            if not isinstance(one, list | range):
                return one
            wait("an index that is a list")
            return Cuda(torch.tensor(list(one)))

        if isinstance(self, Cuda):
            index = tuple(map(there, index)) if isinstance(index, tuple) else there(index)
        return use(self, index, *value)

    return wrapped


def same_parameters(move: Any) -> Any:
    """`module.to` keeps the very parameters, as it does where both are plain tensors; not those of a living graph."""

    @functools.wraps(move)
    def wrapped(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        try:
            torch.__future__.set_swap_module_params_on_conversion(True)
            return move(self, *args, **kwargs)
        except RuntimeError as error:
            if "swap" not in str(error):
                raise
            torch.__future__.set_swap_module_params_on_conversion(False)
            torch.__future__.set_overwrite_module_params_on_conversion(True)
            return move(self, *args, **kwargs)

    return wrapped


def arm() -> TorchDispatchMode:
    """Make torch see the device, for the rest of the process."""
    said = {
        "is_available": True,
        "is_initialized": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": "Emulated",
        "mem_get_info": (64 << 30, 80 << 30),
        "is_bf16_supported": True,
        "max_memory_allocated": 1 << 20,
        "memory_allocated": 1 << 19,
        "synchronize": None,
        "reset_peak_memory_stats": None,
        "empty_cache": None,
        "get_device_properties": SimpleNamespace(total_memory=80 << 30, multi_processor_count=1, name="Emulated"),
    }
    for name, value in said.items():
        setattr(torch.cuda, name, lambda *args, _value=value, **kwargs: _value)
    torch.cuda.Event = Event  # type: ignore[misc, assignment]
    Tensor.pin_memory = pin  # type: ignore[method-assign, assignment]
    Tensor.is_pinned = lambda self, device=None: getattr(self, "pinned", False)  # type: ignore[method-assign, assignment]
    Tensor.__getitem__ = lists_there(Tensor.__getitem__)  # type: ignore[method-assign]
    Tensor.__setitem__ = lists_there(Tensor.__setitem__)  # type: ignore[method-assign]
    torch.tensor, torch.as_tensor = made_on_cpu_first(torch.tensor), made_on_cpu_first(torch.as_tensor)
    torch.inference_mode = NoGrad  # type: ignore[misc, assignment]
    nn.Module._apply = same_parameters(nn.Module._apply)  # type: ignore[method-assign]
    mode = Emulate()
    mode.__enter__()
    return mode


MODE = arm()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Where the host would have waited, the most frequent places first."""
    terminalreporter.section("waits for the emulated device")
    for place, count in waits.most_common(40):
        terminalreporter.line(f"{count:8,}  {place}")
