"""Runs frozen stages for inference in eager mode, with folded batch norms, or in ONNX Runtime.

What is folded or exported is a temporary copy, verified against the stages themselves on the first batch; where it
differs or cannot be built, the stages are run as they are. Knows nothing of images and of the feature cache.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from headswap.common.text import suggest_names
from headswap.features.onnx_tracing import create_session, import_onnxruntime, trace_to_onnx
from headswap.networks.stage import count_parameters, fingerprint_modules, to_channels_last

logger: logging.Logger = logging.getLogger(__name__)
ModuleT = TypeVar("ModuleT", bound=nn.Module)

ENGINES = ("eager", "folded", "onnxruntime")
RELATIVE_TOLERANCE = 1e-4  # largest difference from eager mode, relative to its largest output where that exceeds 1
MIN_IMAGES_FOR_EXPORT = 100  # the export takes one to three seconds, and saves ten milliseconds an image
MAX_PARAMETERS_FOR_EXPORT = 100_000_000  # an export in memory is limited to two gigabytes
MAX_CACHED_ENGINES = 2

StageRunner = Callable[[Tensor], list[Tensor]]
EngineFactory = Callable[[Sequence[nn.Module], Sequence[int]], StageRunner]
EngineSpec = str | EngineFactory  # one of ENGINES, or an engine of one's own, which is not verified
_engine_cache: OrderedDict[str, StageRunner] = OrderedDict()
_engine_cache_lock = threading.Lock()


class MultiOutput(nn.Module):
    """Stages in a row that return the output at several boundaries.

    Attributes:
        stages: to be run one after the other.
        boundaries: numbers of stages after which the output is returned, ascending.
    """

    stages: nn.ModuleList
    boundaries: tuple[int, ...]

    def __init__(self, stages: Sequence[nn.Module], boundaries: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.boundaries = tuple(boundaries)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute a tensor ``[N, ...]`` for each boundary."""
        outputs = [x] * self.boundaries.count(0)
        for num_passed, stage in enumerate(self.stages, 1):
            x = stage(x)
            outputs += [x] * self.boundaries.count(num_passed)
        return outputs


def build_stage_runner(
    stages: Sequence[nn.Module], boundaries: Sequence[int], engine: EngineSpec | None = None, num_images: int = 0
) -> StageRunner:
    """Build a function from the input of the first stage to the outputs at the boundaries.

    Args:
        stages: in evaluation mode; they are not modified.
        boundaries: numbers of stages, ascending; the last is the number of all stages.
        engine: one of ``ENGINES``, or a function of stages and boundaries that returns such a function; by default what
            the stages and ``num_images`` suggest, which is deterministic.
        num_images: how many images there will be.

    Raises:
        ValueError: for an unknown engine.
    """
    check_engine(engine)
    if callable(engine):
        return engine(stages, boundaries)
    reference = MultiOutput(stages, boundaries).eval()
    engine = engine or _choose_engine(reference, num_images)
    if engine == "eager":
        return _build_eager(reference)
    verified: StageRunner | None = None

    def run(x: Tensor) -> list[Tensor]:
        nonlocal verified
        verified = verified or _build_verified(reference, engine, x)
        return verified(x)

    return run


def clear_engine_cache() -> None:
    """Release the engines that are cached; each holds a copy of weights, and a hundred megabytes to compute in."""
    with _engine_cache_lock:
        _engine_cache.clear()


def check_engine(engine: EngineSpec | None) -> None:
    """Check the name of an engine.

    Raises:
        ValueError: for an unknown engine, with the nearest names.
        MissingExtraError: for ONNX Runtime if it is not installed: who asks for it by name does not want another one.
    """
    if isinstance(engine, str) and engine not in ENGINES:
        raise ValueError(f"There is no engine '{engine}'. {suggest_names(engine, ENGINES)}")
    if engine == "onnxruntime":
        import_onnxruntime()


def _choose_engine(reference: MultiOutput, num_images: int) -> str:
    """Choose the fastest engine.

    ONNX Runtime is four times as fast with grouped convolutions, and hardly faster than folding with others. Without
    batch norms there is nothing to fold.
    """
    modules = list(reference.modules())
    first = next(reference.parameters(), None)
    if first is None or first.dtype != torch.float32 or not any(isinstance(m, _BatchNorm) for m in modules):
        return "eager"
    is_grouped = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in modules)
    is_small = count_parameters(reference) < MAX_PARAMETERS_FOR_EXPORT
    if is_grouped and is_small and num_images >= MIN_IMAGES_FOR_EXPORT and first.device.type == "cpu":
        return "onnxruntime"
    return "folded"


def _build_eager(reference: MultiOutput) -> StageRunner:
    def run(x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            outputs: list[Tensor] = reference(to_channels_last(x))
        return outputs

    return run


def _build_verified(reference: MultiOutput, engine: str, x: Tensor) -> StageRunner:
    """Build the fastest engine that agrees on ``x``, the preferred one first; it is cached for the same stages."""
    key = fingerprint_modules([reference], f"{engine} {reference.boundaries} {tuple(x.shape[1:])} {x.device}")
    with _engine_cache_lock:
        cached = _engine_cache.get(key)
    expected = _build_eager(reference)(x)
    # A cached engine is verified as well: networks of equal repr and weights may still compute different things.
    builders = [*([lambda *_: cached] if cached else []), *_list_builders(engine)]
    run = next((run for builder in builders if (run := _try_builder(builder, reference, x, expected))), None)
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
        # One image as well as all, since an export may have fixed the batch size, and the last batch is smaller.
        outputs, references = [*run(x), *run(x[:1])], [*expected, *(output[:1] for output in expected)]
        if all(map(_is_close, outputs, references)):
            return run
        logger.info("%s: other outputs than eager mode", builder.__name__)
    except Exception:  # whatever an exporter or an engine raises, the stages themselves can be run
        logger.info("%s: cannot be built", builder.__name__, exc_info=True)
    return None


def _is_close(actual: Tensor, expected: Tensor) -> bool:
    return actual.shape == expected.shape and bool(
        (actual - expected).abs().max() <= RELATIVE_TOLERANCE * expected.abs().max().clamp(min=1)
    )


def _build_folded(reference: MultiOutput, x: Tensor) -> StageRunner:
    return _build_eager(fold_batch_norms(reference, x[:1]).to(memory_format=torch.channels_last))


def fold_batch_norms(network: ModuleT, x: Tensor) -> ModuleT:
    """Copy a network and merge each batch norm that directly follows a convolution into that convolution.

    The pairs are found by running the network: a norm whose input is the very tensor that a convolution returned.
    Whether something else uses that tensor as well cannot be seen, so the copy has to be verified.

    Args:
        network: in evaluation mode; it is not modified.
        x: an input ``[N, ...]``.
    """
    other = copy.deepcopy(network).requires_grad_(False)
    for norm, convolution in _find_conv_norm_pairs(other, x).items():
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:
            raise ValueError("A batch norm without running statistics cannot be folded.")
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
        )
        _replace_module(other, norm, getattr(norm, "act", nn.Identity()))  # timm's norms include their activation
    return other.requires_grad_(False)


def _find_conv_norm_pairs(network: nn.Module, x: Tensor) -> dict[_BatchNorm, nn.Conv2d]:
    sources: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # holds the tensors, so that their ids are not reused
    pairs: dict[_BatchNorm, nn.Conv2d] = {}

    def record_output(convolution: nn.Conv2d, _: tuple[Tensor, ...], output: Tensor) -> None:
        sources[id(output)] = (convolution, output)

    def match_input(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in sources:
            pairs[norm] = sources[id(inputs[0])][0]

    hooks = [m.register_forward_hook(record_output) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(match_input) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
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
    import_onnxruntime()  # before time is spent on the export
    output_names = [f"boundary{i}" for i in range(len(reference.boundaries))]
    content = trace_to_onnx(fold_batch_norms(reference, x[:1]), x, "x", output_names)
    session = create_session(content, torch.get_num_threads())

    def run(x: Tensor) -> list[Tensor]:
        return [torch.from_numpy(output) for output in session.run(output_names, {"x": x.contiguous().numpy()})]

    return run
