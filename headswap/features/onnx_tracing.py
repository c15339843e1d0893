"""Exports a module to ONNX bytes with torch's tracing exporter, one thread at a time, and opens them in ONNX Runtime.

The exporter is deprecated, but takes a tenth of the time of its successor and supports every family here. It keeps its
state in globals of the process. Knows nothing of what is exported and of what the file is for.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._C import Value

from headswap.common.extras import needs_extra

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

OPSET_VERSION = 18
_export_lock = threading.RLock()


@contextmanager
def exclusive_export(network: nn.Module) -> Iterator[None]:
    """Prepare a network for an exporter, and let one thread at a time export, without warnings.

    Args:
        network: in evaluation mode and used for nothing else, since the fast path of its attention is disabled.
    """
    _disable_fast_attention(network)
    with _export_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trace_to_onnx(network: nn.Module, x: Tensor, input_name: str, output_names: Sequence[str]) -> bytes:
    """Export a network to ONNX, for batches of any size.

    Args:
        network: as for ``exclusive_export``.
        x: example input ``[N, ...]``.
        input_name: of the input in the file.
        output_names: of the outputs in the file.

    Raises:
        Exception: whatever the exporter raises.
    """
    file, axes = io.BytesIO(), {name: {0: "pictures"} for name in (input_name, *output_names)}
    with exclusive_export(network):
        torch.onnx.register_custom_op_symbolic(  # type: ignore[attr-defined]  # public, but not in its __all__
            "aten::rms_norm", _rms_norm_symbolic, OPSET_VERSION
        )
        torch.onnx.export(
            network,
            (x,),
            file,  # type: ignore[arg-type]  # the tracing exporter takes a file, unlike its successor
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # evaluation mode, and what _disable_fast_attention changed
            opset_version=OPSET_VERSION,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes=axes,
            verbose=False,
        )
    return file.getvalue()


def import_onnxruntime() -> Any:
    """The module of ONNX Runtime.

    Raises:
        MissingExtraError: if it is not installed.
    """
    with needs_extra("onnx", "ONNX Runtime"):
        import onnxruntime
    return onnxruntime


def create_session(source: bytes | Path, num_threads: int) -> InferenceSession:
    """Open an ONNX file in ONNX Runtime, on the CPU.

    Args:
        source: the file or its bytes.
        num_threads: to compute an operation with; 0 leaves it to ONNX Runtime.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3  # errors
    model = source if isinstance(source, bytes) else str(source)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _disable_fast_attention(network: nn.Module) -> None:
    """Make the attention of a network in evaluation mode use operations that exist in ONNX.

    Torch's own switch is global: what other threads compute meanwhile would differ in its last bits.
    """
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.dropout, module.training = 0.0, True  # there is no fast path in training mode
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # nor with an activation that it does not know


def _rms_norm_symbolic(g: Any, x: Value, shape: Value, weight: Value, epsilon: Value) -> Value:
    """Express RMS normalization by other operations, since ONNX has it only from opset 23 on.

    Args:
        g: the graph that is built, of a private class of torch.
        x: input.
        shape: of the normalized axes.
        weight: factor, or none.
        epsilon: added to the mean square, or none.
    """
    from torch.onnx import symbolic_helper

    constant = symbolic_helper._maybe_get_const(epsilon, "f")
    eps = constant if isinstance(constant, float) else torch.finfo(torch.float32).eps
    axes = g.op("Constant", value_t=torch.arange(-len(symbolic_helper._maybe_get_const(shape, "is")), 0))
    mean = g.op("ReduceMean", g.op("Mul", x, x), axes, keepdims_i=1)
    rms = g.op("Sqrt", g.op("Add", mean, g.op("Constant", value_t=torch.tensor(eps))))
    normalized: Value = g.op("Div", x, rms)
    if symbolic_helper._is_none(weight):
        return normalized
    weighted: Value = g.op("Mul", normalized, weight)
    return weighted
