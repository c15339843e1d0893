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

from headswap.common.text import suggest_names
from headswap.features.onnx_tracing import trace_to_onnx
from headswap.networks.stage import count_parameters, fingerprint_modules, to_channels_last

logger = logging.getLogger(__name__)

ENGINES = ("eager", "folded", "onnxruntime")
RELATIVE_TOLERANCE = (
    1e-4  # largest difference from the stages themselves, relative to their largest output where that exceeds 1
)
MIN_IMAGES_FOR_EXPORT = 100  # pictures; the export takes one to three seconds, a picture ten milliseconds less
MAX_PARAMETERS_FOR_EXPORT = 100_000_000  # weights; an export in memory ends at two gigabytes
MAX_CACHED_ENGINES = 2  # copies that are ready for the next run of the same stages

StageRunner = Callable[[Tensor], list[Tensor]]
EngineSpec = (
    str | Callable[[Sequence[nn.Module], Sequence[int]], StageRunner]
)  # one of ENGINES, or one's own, not proved here
_engine_cache: OrderedDict[str, StageRunner] = OrderedDict()
_engine_cache_lock = threading.Lock()


class MultiOutput(nn.Module):
    """Parts in a row that tell what arrives after so many of them: ``[N, ...]`` to one tensor for each cut."""

    def __init__(self, stages: Sequence[nn.Module], boundaries: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.boundaries = tuple(boundaries)

    def forward(self, x: Tensor) -> list[Tensor]:
        told = [x] * self.boundaries.count(0)
        for passed, part in enumerate(self.stages, 1):
            x = part(x)
            told += [x] * self.boundaries.count(passed)
        return told


def build_stage_runner(
    stages: Sequence[nn.Module], boundaries: Sequence[int], engine: EngineSpec | None = None, num_images: int = 0
) -> StageRunner:
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
    check_engine(engine)
    if callable(engine):
        return engine(stages, boundaries)
    plain = MultiOutput(stages, boundaries).eval()
    engine = engine or _choose_engine(plain, num_images)
    if engine == "eager":
        return _build_eager(plain)
    run: StageRunner | None = None

    def first_and_later(x: Tensor) -> list[Tensor]:
        nonlocal run
        run = run or _build_verified(plain, engine, x)
        return run(x)

    return first_and_later


def clear_engine_cache() -> None:
    """Let go of what is ready for the next run; a copy holds weights, and a hundred megabytes to compute in."""
    with _engine_cache_lock:
        _engine_cache.clear()


def check_engine(engine: EngineSpec | None) -> None:
    """``ValueError`` for an unknown engine, with the nearest names."""
    if isinstance(engine, str) and engine not in ENGINES:
        raise ValueError(f"There is no engine '{engine}'. {suggest_names(engine, ENGINES)}")


def _choose_engine(reference: MultiOutput, num_images: int) -> str:
    """Grouped convolutions are what an inference engine does four times faster; of others it does little more than
    folding, and without batch norms there is nothing to fold."""
    modules = list(reference.modules())
    first = next(reference.parameters(), None)
    if first is None or first.dtype != torch.float32 or not any(isinstance(m, _BatchNorm) for m in modules):
        return "eager"
    grouped = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in modules)
    small = count_parameters(reference) < MAX_PARAMETERS_FOR_EXPORT
    if grouped and small and num_images >= MIN_IMAGES_FOR_EXPORT and first.device.type == "cpu":
        return "onnxruntime"
    return "folded"


def _build_eager(reference: MultiOutput) -> StageRunner:
    def run(x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            return reference(to_channels_last(x))

    return run


def _build_verified(reference: MultiOutput, engine: str, x: Tensor) -> StageRunner:
    """The fastest way that agrees on ``x``, the wanted one first; kept for the next run of the same stages."""
    key = fingerprint_modules([reference], f"{engine} {reference.boundaries} {tuple(x.shape[1:])} {x.device}")
    with _engine_cache_lock:
        kept = _engine_cache.get(key)
    wanted = _build_eager(reference)(x)
    # What is kept is proved as well: two networks may look and weigh the same and still do different things.
    ways = ([lambda *_: kept] if kept else []) + _list_builders(engine)
    run = next((run for make in ways if (run := _try_builder(make, reference, x, wanted))), None)
    if run is None:
        return _build_eager(reference)
    with _engine_cache_lock:
        _engine_cache[key] = run
        _engine_cache.move_to_end(key)
        while len(_engine_cache) > MAX_CACHED_ENGINES:
            _engine_cache.popitem(last=False)
    return run


def _list_builders(engine: str) -> list[Callable[[MultiOutput, Tensor], StageRunner]]:
    return [_build_onnxruntime, _build_folded] if engine == "onnxruntime" else [_build_folded]


def _try_builder(
    builder: Callable[[MultiOutput, Tensor], StageRunner], reference: MultiOutput, x: Tensor, expected: list[Tensor]
) -> StageRunner | None:
    try:
        run = builder(reference, x)
        # One picture as well as all: an export may have learned by heart how many there were, and the last are fewer.
        if all(map(_is_close, [*run(x), *run(x[:1])], [*expected, *(told[:1] for told in expected)])):
            return run
        logger.info("%s: another answer than the stages themselves", builder.__name__)
    except Exception:  # whatever an exporter or an engine stumbles over, the stages themselves can be run
        logger.info("%s: cannot be made", builder.__name__, exc_info=True)
    return None


def _is_close(actual: Tensor, expected: Tensor) -> bool:
    return actual.shape == expected.shape and bool(
        (actual - expected).abs().max() <= RELATIVE_TOLERANCE * expected.abs().max().clamp(min=1)
    )


def _build_folded(reference: MultiOutput, x: Tensor) -> StageRunner:
    return _build_eager(fold_batch_norms(reference, x[:1]).to(memory_format=torch.channels_last))


def fold_batch_norms(network: nn.Module, x: Tensor) -> nn.Module:
    """A copy of ``network`` in which each batch norm right behind a convolution is part of that convolution.

    The pairs are found by watching ``x`` pass: a norm whose input is the very tensor that a convolution gave. Whether
    something else used that tensor as well cannot be seen, so the copy has to be compared.
    """
    other = copy.deepcopy(network).requires_grad_(False)
    for norm, convolution in _find_conv_norm_pairs(other, x).items():
        fused = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        convolution.weight, convolution.bias = fused
        _replace_module(other, norm, getattr(norm, "act", nn.Identity()))  # timm's norms bring their activation along
    return other.requires_grad_(False)


def _find_conv_norm_pairs(network: nn.Module, x: Tensor) -> dict[_BatchNorm, nn.Conv2d]:
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


def _replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for owner in network.modules():
        for name, child in owner.named_children():
            if child is old:
                setattr(owner, name, new)


def _build_onnxruntime(reference: MultiOutput, x: Tensor) -> StageRunner:
    import onnxruntime

    names = [f"cut{i}" for i in range(len(reference.boundaries))]
    content = trace_to_onnx(fold_batch_norms(reference, x[:1]), x, "x", names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> list[Tensor]:
        return [torch.from_numpy(told) for told in session.run(names, {"x": x.contiguous().numpy()})]

    return run
