"""Torch's exporter that traces, for one thread at a time: a network becomes the bytes of an ONNX file.

It is deprecated, ready in a tenth of the other one's time, expresses every family here, and keeps what it does in
globals of the process. Knows nothing of what is exported and of what the file is for.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

OPSET_VERSION = 18
_export_lock = threading.RLock()


@contextmanager
def exclusive_export() -> Iterator[None]:
    """For whatever exports, one thread at a time; its warnings of what was proved to be harmless are not heard."""
    with _export_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def trace_to_onnx(network: nn.Module, x: Tensor, input_name: str, output_names: Sequence[str]) -> bytes:
    """The ONNX file of a network in evaluation mode, for any number of pictures.

    Args:
        network: of our own alone, since attention's fast way is taken from it.
        x: ``[N, ...]``, what it takes.
        given: what the file calls it.
        told: what the file calls what comes out.

    Raises:
        Exception: whatever the exporter stumbles over.
    """
    file, axes = io.BytesIO(), {name: {0: "pictures"} for name in (input_name, *output_names)}
    disable_fast_attention(network)
    with exclusive_export():
        torch.onnx.register_custom_op_symbolic("aten::rms_norm", _rms_norm_symbolic, OPSET_VERSION)
        torch.onnx.export(
            network,
            (x,),
            file,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # of the evaluation mode, and of what stands below
            opset_version=OPSET_VERSION,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes=axes,
            verbose=False,
        )
    return file.getvalue()


def disable_fast_attention(network: nn.Module) -> None:
    """Let this network in evaluation mode attend by operations that have a name elsewhere.

    Torch's own switch is one for the process: what others compute meanwhile would differ in its last bits.
    """
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.dropout, module.training = 0.0, True  # in training mode there is no fast way
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # nor with an activation that it does not know


def _rms_norm_symbolic(g, x, shape, weight, epsilon):
    """Features of one length in the words of ONNX, which has one for it only from version 23 on."""
    from torch.onnx import symbolic_helper as words

    smallest = words._maybe_get_const(epsilon, "f")
    smallest = smallest if isinstance(smallest, float) else torch.finfo(torch.float32).eps
    axes = g.op("Constant", value_t=torch.arange(-len(words._maybe_get_const(shape, "is")), 0))
    mean = g.op("ReduceMean", g.op("Mul", x, x), axes, keepdims_i=1)
    length = g.op("Sqrt", g.op("Add", mean, g.op("Constant", value_t=torch.tensor(smallest))))
    normal = g.op("Div", x, length)
    return normal if words._is_none(weight) else g.op("Mul", normal, weight)
