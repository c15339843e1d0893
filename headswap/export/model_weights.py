"""Checks the weights of a model file against the network that its description builds, and loads them into it.

Weights are a safetensors file. Its header must list exactly the tensors of the network before any of their data is
read, and every number must be finite. Knows nothing of zip files.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType
from typing import IO

import safetensors.torch
import torch
from torch import Tensor, nn

from headswap.common.rng import SeededRandomMode
from headswap.export.schema import (
    InvalidModelFile,
    ModelDescription,
    build_from_description,
    parse_bounded_json,
    sanitize_and_truncate,
)
from headswap.networks.classifier import Classifier

MAX_HEADER_BYTES_PER_TENSOR = 1_000  # of a safetensors header

TensorSpecs = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]  # dtype and shape by the tensor's name

# The dtypes that a network here can have, by their names in safetensors.
_SAFETENSORS_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "F32": torch.float32,
        "I64": torch.int64,
        "I32": torch.int32,
        "BOOL": torch.bool,
        "U8": torch.uint8,
    }
)


def dump_weights(model: nn.Module) -> bytes:
    """The state dict of a module as a safetensors file."""
    # Clones, because safetensors refuses tensors that share memory.
    state_dict = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in model.state_dict().items()}
    return safetensors.torch.save(state_dict)


def parse_weights(content: bytes, sha256: str) -> dict[str, Tensor]:
    """The state dict in a safetensors file whose header was checked.

    Args:
        content: the file.
        sha256: the hexadecimal digest that it must have.

    Raises:
        InvalidModelFile: if the digest differs or a number is not finite.
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InvalidModelFile("its weights are not those that it was saved with")
    state_dict = safetensors.torch.load(content)
    if not all(map(is_finite, state_dict.values())):
        raise InvalidModelFile("some of its weights are no numbers")
    return state_dict


def get_tensor_specs(module: nn.Module) -> TensorSpecs:
    """Dtype and shape of every tensor in a module's state dict."""
    return {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in module.state_dict().items()}


def check_safetensors_header(stream: IO[bytes], num_bytes: int, expected: TensorSpecs) -> None:
    """Check that the header of a safetensors file lists exactly the expected tensors; their data is not read.

    Args:
        stream: the file, at its start.
        num_bytes: its length.
        expected: the tensors of the network.

    Raises:
        InvalidModelFile: if tensors are missing, added or of another shape or dtype, or the length does not fit.
    """
    (header_bytes,) = struct.unpack("<Q", stream.read(8))
    if header_bytes > MAX_HEADER_BYTES_PER_TENSOR * (1 + len(expected)):
        raise InvalidModelFile("its weights are more than its description says")
    header = parse_bounded_json(stream.read(header_bytes))
    found = {name: (_SAFETENSORS_DTYPES.get(row["dtype"]), tuple(row["shape"])) for name, row in header.items()}
    if found != expected:
        wrong = next((key for key in expected if found.get(key) != expected[key]), "their number")
        raise InvalidModelFile(f"its weights do not fit its description, {sanitize_and_truncate(wrong)} for one")
    data_bytes = sum(math.prod(shape) * dtype.itemsize for dtype, shape in expected.values())
    if 8 + header_bytes + data_bytes != num_bytes:
        raise InvalidModelFile("its weights are cut short")


def load_weights(model: Classifier, description: ModelDescription, state_dict: Mapping[str, Tensor]) -> Classifier:
    """Give a network on the meta device its weights, record and frozen stages.

    Args:
        model: the described network on the meta device.
        description: what the file says of it.
        state_dict: weights that fit it.

    Returns:
        The model in evaluation mode; a new one where some tensors are not in the state dict.

    Raises:
        InvalidModelFile: if more stages are to be unfrozen than the network has.
    """
    model.load_state_dict(state_dict, assign=True)
    if _has_meta_tensors(model):  # tensors outside the state dict, such as rotary embeddings
        with SeededRandomMode(0):  # all of it is overwritten
            model = build_from_description(description)
        model.load_state_dict(state_dict)
    model.preprocess, model.pretrained = description.preprocess, description.pretrained
    model.record, model.seen = description.record, description.seen
    if description.learning_stages > len(model.freezable_stages):
        raise InvalidModelFile("more of its stages learn than there are")
    return model.unfreeze(description.learning_stages).eval()


def is_finite(tensor: Tensor) -> bool:
    """Whether every floating-point number is finite, and every byte of a boolean tensor is 0 or 1."""
    if tensor.dtype == torch.bool:
        return bool((tensor.view(torch.uint8) <= 1).all())
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _has_meta_tensors(model: nn.Module) -> bool:
    held = chain.from_iterable(vars(module).values() for module in model.modules())
    tensors = chain(model.parameters(), model.buffers(), (value for value in held if isinstance(value, Tensor)))
    return any(tensor.is_meta for tensor in tensors)
