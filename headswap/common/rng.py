"""Draws torch random numbers from a private seeded generator, per thread, without touching the global ones.

Torch's default generators belong to the whole process: seeding them in one thread changes what another thread draws.
Operations that take a generator are given a private one; for the others the default generator's state is swapped
under a lock. Knows nothing of what is drawn for what, nor of NumPy's and Python's random numbers.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_default_generator_lock = threading.Lock()


class SeededRandomMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__ has no types
    """Context manager in which torch, in this thread alone, draws from a private generator, such as for dropout.

    The same seed gives the numbers that ``torch.manual_seed`` would give, whatever other threads draw, and the default
    generators keep their state. Entering it again continues the sequence. Two threads must not share one. Forward
    passes that ``torch.utils.checkpoint`` (non-reentrant) recomputes use the default generators, whose state torch
    restores for them.

    Attributes:
        was_used: whether anything has been drawn; may be set back to False to observe what follows.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's has no types
        self.was_used: bool = False
        self._seed = seed
        self._generators: dict[torch.device, Generator] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_random = torch.Tag.nondeterministic_seeded in func.tags
        if not is_random or kwargs.get("generator") is not None or _is_checkpointing():
            return func(*args, **kwargs)
        device = _find_device(args, kwargs)
        if device.type == "meta":  # no numbers are computed
            return func(*args, **kwargs)
        self.was_used = True
        generator, found = self._generator_for(device), _find_generator_overload(func)
        if found is None:
            return _call_with_default_generator(generator, func, args, kwargs)
        overload, position = found
        if position < len(args):  # given by position: None, or the caller's own generator
            args = (*args[:position], args[position] or generator, *args[position + 1 :])
            return overload(*args, **kwargs)
        return overload(*args, **kwargs | {"generator": generator})

    def _generator_for(self, device: torch.device) -> Generator:
        """The private generator of a device, seeded at its first use."""
        if device not in self._generators:
            self._generators[device] = Generator(device).manual_seed(self._seed)
        return self._generators[device]


def _is_checkpointing() -> bool:
    """Whether non-reentrant checkpointing is active, which will recompute the current operation."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


def _find_device(args: Any, kwargs: Any) -> torch.device:
    """The device of an operation: its device argument or that of its first tensor."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.device):
            return _with_device_index(value)
        if isinstance(value, Tensor):
            return _with_device_index(value.device)
    return torch.device("cpu")


def _with_device_index(device: torch.device) -> torch.device:
    """The device with the current index if it has none, as "cuda"."""
    if device.type in ("cpu", "meta") or device != torch.device(device.type):
        return device
    return torch.device(device.type, torch.get_device_module(device).current_device())


@cache
def _find_generator_overload(func: Any) -> tuple[Any, int] | None:
    """The overload of an operation that has the same arguments and ``generator``, and that argument's position.

    Returns:
        The operation itself if it takes a generator; None if no overload does.
    """
    packet, names = func.overloadpacket, _argument_names(func)
    for overload in (func, *(getattr(packet, name) for name in packet.overloads())):
        overload_names = _argument_names(overload)
        if "generator" in overload_names and {*overload_names} == {*names, "generator"}:
            return overload, overload_names.index("generator")
    return None


def _argument_names(func: Any) -> list[str]:
    return [argument.name for argument in func._schema.arguments]


def _call_with_default_generator(generator: Generator, func: Any, args: Any, kwargs: Any) -> Any:
    """Call an operation without a generator argument, as dropout on a GPU, with the default one in this state."""
    default = _default_generator_of(generator.device)
    if default is None:
        return func(*args, **kwargs)
    with _default_generator_lock:
        saved = default.get_state()
        default.set_state(generator.get_state())
        try:
            return func(*args, **kwargs)
        finally:
            generator.set_state(default.get_state())
            default.set_state(saved)


def _default_generator_of(device: torch.device) -> Generator | None:
    """Torch's default generator of a device; None for device types that do not expose it."""
    if device.type == "cpu":
        return torch.default_generator
    generators = getattr(torch.get_device_module(device), "default_generators", ())
    return generators[device.index] if device.index < len(generators) else None
