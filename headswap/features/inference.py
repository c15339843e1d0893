"""How stages that stand still are run as fast as the machine can: with their batch norms folded, or by ONNX Runtime.

What is folded or exported is a throw-away copy, proved against the stages themselves on the first batch; where it
disagrees or cannot be made, they are run as they are. Knows nothing of images and of what is kept.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from headswap.common.text import nearest
from headswap.features.onnx_tracing import traced
from headswap.networks.stage import channels_last, count_weights, fingerprint

log = logging.getLogger(__name__)

ENGINES = ("eager", "folded", "onnxruntime")
AGREEMENT = 1e-4  # largest difference from the stages themselves, relative to their largest output where that exceeds 1
WORTH_AN_EXPORT = 100  # pictures; the export takes one to three seconds, a picture ten milliseconds less
MOST_EXPORTED = 100_000_000  # weights; an export in memory ends at two gigabytes
KEPT = 2  # copies that are ready for the next run of the same stages

Run = Callable[[Tensor], list[Tensor]]
Engine = str | Callable[[Sequence[nn.Module], Sequence[int]], Run]  # one of ENGINES, or one's own, not proved here
_ready: OrderedDict[str, Run] = OrderedDict()
_lock = threading.Lock()


class Cuts(nn.Module):
    """Parts in a row that tell what arrives after so many of them: ``[N, ...]`` to one tensor for each cut."""

    def __init__(self, parts: Sequence[nn.Module], cuts: Sequence[int]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.cuts = tuple(cuts)

    def forward(self, x: Tensor) -> list[Tensor]:
        told = [x] * self.cuts.count(0)
        for passed, part in enumerate(self.parts, 1):
            x = part(x)
            told += [x] * self.cuts.count(passed)
        return told


def frozen(parts: Sequence[nn.Module], cuts: Sequence[int], engine: Engine | None = None, count: int = 0) -> Run:
    """A function from what arrives before ``parts`` to what arrives after so many of them, for each of ``cuts``.

    Args:
        parts: in evaluation mode; they are not touched.
        cuts: ascending; the last is the number of parts.
        engine: one of ``ENGINES``, or a function of parts and cuts that gives such a function; by default what the
            parts and ``count`` suggest, which is the same every time.
        count: how many pictures there will be.

    Raises:
        ValueError: for an unknown engine.
    """
    check(engine)
    if callable(engine):
        return engine(parts, cuts)
    plain = Cuts(parts, cuts).eval()
    engine = engine or _suggested(plain, count)
    if engine == "eager":
        return _eager(plain)
    run: Run | None = None

    def first_and_later(x: Tensor) -> list[Tensor]:
        nonlocal run
        run = run or _proved(plain, engine, x)
        return run(x)

    return first_and_later


def forget() -> None:
    """Let go of what is ready for the next run; a copy holds weights, and a hundred megabytes to compute in."""
    with _lock:
        _ready.clear()


def check(engine: Engine | None) -> None:
    """``ValueError`` for an unknown engine, with the nearest names."""
    if isinstance(engine, str) and engine not in ENGINES:
        raise ValueError(f"There is no engine '{engine}'. {nearest(engine, ENGINES)}")


def _suggested(plain: Cuts, count: int) -> str:
    """Grouped convolutions are what an inference engine does four times faster; of others it does little more than
    folding, and without batch norms there is nothing to fold."""
    modules = list(plain.modules())
    first = next(plain.parameters(), None)
    if first is None or first.dtype != torch.float32 or not any(isinstance(m, _BatchNorm) for m in modules):
        return "eager"
    grouped = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in modules)
    small = count_weights(plain) < MOST_EXPORTED
    if grouped and small and count >= WORTH_AN_EXPORT and first.device.type == "cpu":
        return "onnxruntime"
    return "folded"


def _eager(plain: Cuts) -> Run:
    def run(x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return plain(channels_last(x))

    return run


def _proved(plain: Cuts, engine: str, x: Tensor) -> Run:
    """The fastest way that agrees on ``x``, the wanted one first; kept for the next run of the same stages."""
    key = fingerprint([plain], f"{engine} {plain.cuts} {tuple(x.shape[1:])} {x.device}")
    with _lock:
        kept = _ready.get(key)
    wanted = _eager(plain)(x)
    # What is kept is proved as well: two networks may look and weigh the same and still do different things.
    ways = ([lambda *_: kept] if kept else []) + _ways(engine)
    run = next((run for make in ways if (run := _made(make, plain, x, wanted))), None)
    if run is None:
        return _eager(plain)
    with _lock:
        _ready[key] = run
        _ready.move_to_end(key)
        while len(_ready) > KEPT:
            _ready.popitem(last=False)
    return run


def _ways(engine: str) -> list[Callable[[Cuts, Tensor], Run]]:
    return [_exported, _folded] if engine == "onnxruntime" else [_folded]


def _made(make: Callable[[Cuts, Tensor], Run], plain: Cuts, x: Tensor, wanted: list[Tensor]) -> Run | None:
    try:
        run = make(plain, x)
        # One picture as well as all: an export may have learned by heart how many there were, and the last are fewer.
        if all(map(_agree, [*run(x), *run(x[:1])], [*wanted, *(told[:1] for told in wanted)])):
            return run
        log.info("%s: another answer than the stages themselves", make.__name__)
    except Exception:  # whatever an exporter or an engine stumbles over, the stages themselves can be run
        log.info("%s: cannot be made", make.__name__, exc_info=True)
    return None


def _agree(answer: Tensor, wanted: Tensor) -> bool:
    return answer.shape == wanted.shape and bool(
        (answer - wanted).abs().max() <= AGREEMENT * wanted.abs().max().clamp(min=1)
    )


def _folded(plain: Cuts, x: Tensor) -> Run:
    return _eager(fold(plain, x[:1]).to(memory_format=torch.channels_last))


def fold(network: nn.Module, x: Tensor) -> nn.Module:
    """A copy of ``network`` in which each batch norm right behind a convolution is part of that convolution.

    The pairs are found by watching ``x`` pass: a norm whose input is the very tensor that a convolution gave. Whether
    something else used that tensor as well cannot be seen, so the copy has to be compared.
    """
    other = copy.deepcopy(network).requires_grad_(False)
    for norm, convolution in _pairs(other, x).items():
        fused = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        convolution.weight, convolution.bias = fused
        _replace(other, norm, getattr(norm, "act", nn.Identity()))  # timm's norms bring their activation along
    return other.requires_grad_(False)


def _pairs(network: nn.Module, x: Tensor) -> dict[_BatchNorm, nn.Conv2d]:
    given: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensors are held, so that no other takes their place
    pairs: dict[_BatchNorm, nn.Conv2d] = {}

    def told(convolution: nn.Conv2d, _: tuple[Tensor, ...], output: Tensor) -> None:
        given[id(output)] = (convolution, output)

    def asked(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in given:
            pairs[norm] = given[id(inputs[0])][0]

    hooks = [m.register_forward_hook(told) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(asked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return pairs


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for owner in network.modules():
        for name, child in owner.named_children():
            if child is old:
                setattr(owner, name, new)


def _exported(plain: Cuts, x: Tensor) -> Run:
    import onnxruntime

    names = [f"cut{i}" for i in range(len(plain.cuts))]
    content = traced(fold(plain, x[:1]), x, "x", names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> list[Tensor]:
        return [torch.from_numpy(told) for told in session.run(names, {"x": x.contiguous().numpy()})]

    return run
