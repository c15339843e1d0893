"""Random numbers of one's own: what a block draws comes from a generator that nobody else draws from or seeds.

Torch's default generators belong to the whole process. Whoever seeds or swaps them in one thread changes what another
thread draws, so nothing here touches them where an operation takes a generator, and they are lent under a lock where
it takes none. Knows nothing of what is drawn for what, nor of numpy's and Python's own random numbers.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_default_generator_lock = threading.Lock()  # of the default generators


class SeededRandomMode(TorchDispatchMode):
    """Within the block, and in this thread alone, torch draws from here: initial weights, dropout, whole layers that
    are left out. The next block goes on where this one ended.

    The same seed gives what ``torch.manual_seed`` would have given, whatever others draw meanwhile, and the default
    generators stay as they are. Two threads may not share one. What is computed once more on the way back
    (``torch.utils.checkpoint``, non-reentrant) is left to the default generators, which torch sets back for it.

    Attributes:
        drew: whether anything was drawn from here; whoever wants to know from when on sets it to False.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.was_used = False
        self._seed = seed
        self._generators: dict[torch.device, Generator] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        draws = torch.Tag.nondeterministic_seeded in func.tags
        if not draws or kwargs.get("generator") is not None or _is_checkpointing():
            return func(*args, **kwargs)
        device = _find_device(args, kwargs)
        if device.type == "meta":  # numbers that nobody sees
            return func(*args, **kwargs)
        self.was_used = True
        own, taking = self._generator_for(device), _find_generator_overload(func)
        if taking is None:
            return _call_with_default_generator(own, func, args, kwargs)
        operation, place = taking
        if place < len(args):  # by position, of which there is None or somebody's own
            args = (*args[:place], args[place] or own, *args[place + 1 :])
            return operation(*args, **kwargs)
        return operation(*args, **kwargs | {"generator": own})

    def _generator_for(self, device: torch.device) -> Generator:
        if device not in self._generators:
            self._generators[device] = Generator(device).manual_seed(self._seed)
        return self._generators[device]


def _is_checkpointing() -> bool:
    """Whether checkpointing is about to forget what is computed now."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def _find_device(args: Any, kwargs: Any) -> torch.device:
    """Where an operation computes, which names it or takes a tensor that lies there."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.device):
            return _with_device_index(value)
        if isinstance(value, Tensor):
            return _with_device_index(value.device)
    return torch.device("cpu")


def _with_device_index(device: torch.device) -> torch.device:
    if device.type in ("cpu", "meta") or device.index is not None:
        return device
    return torch.device(device.type, torch.get_device_module(device).current_device())


@cache
def _find_generator_overload(func: Any) -> tuple[Any, int] | None:
    """The operation itself if it takes a generator, or the one of its name that takes one besides, and at which
    place; None where there is no such."""
    packet, own = func.overloadpacket, _argument_names(func)
    for operation in (func, *(getattr(packet, name) for name in packet.overloads())):
        theirs = _argument_names(operation)
        if "generator" in theirs and {*theirs} == {*own, "generator"}:
            return operation, theirs.index("generator")
    return None


def _argument_names(func: Any) -> list[str]:
    return [argument.name for argument in func._schema.arguments]


def _call_with_default_generator(generator: Generator, func: Any, args: Any, kwargs: Any) -> Any:
    """What takes no generator, as dropout on an accelerator, draws from the default one, which is ours meanwhile."""
    default = _default_generator_of(generator.device)
    if default is None:
        return func(*args, **kwargs)
    with _default_generator_lock:
        others = default.get_state()
        default.set_state(generator.get_state())
        try:
            return func(*args, **kwargs)
        finally:
            generator.set_state(default.get_state())
            default.set_state(others)


def _default_generator_of(device: torch.device) -> Generator | None:
    """Torch's own generator of a device; None of a kind that does not show it."""
    if device.type == "cpu":
        return torch.default_generator
    generators = getattr(torch.get_device_module(device), "default_generators", ())
    return generators[device.index] if device.index < len(generators) else None
