"""Converts any accepted image input (path, bytes, stream, PIL image, array, tensor) to a path, bytes or PIL image.

What cannot be converted raises an error that says what to give instead. Decodes no file.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from PIL.ImageFile import ImageFile

from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import MEGABYTE, get_limits
from headswap.common.text import sanitize
from headswap.data import bit_depth

ImageInput: TypeAlias = (
    str | os.PathLike[str] | Image.Image | npt.NDArray[Any] | torch.Tensor | bytes | bytearray | memoryview | BinaryIO
)

UNNAMED_IMAGE = "The picture"  # how an error message calls an input without a file name
ACCEPTED_INPUTS = "a path, a PIL image, an array, a tensor, a file's bytes, or a file that is open in binary mode"
_URL = re.compile(r"([a-z][a-z0-9+.-]+:/|www\.)", re.IGNORECASE)  # two letters or more: C:/ is a drive
_MAX_URL_LENGTH = 200  # characters shown of a URL
_SHAPE_ADVICE = "give [H, W, 3], [3, H, W] or grey [H, W]"
_RANGE_TOLERANCE = 1e-3  # floats may exceed the range from 0 to 1 by this after resizing or in half precision


def get_input_name(source: object) -> str:
    """The name of an input for error messages: its file's name, or ``UNNAMED_IMAGE``."""
    if not isinstance(source, str | os.PathLike):
        return UNNAMED_IMAGE
    text = os.fsdecode(source)
    return text[:_MAX_URL_LENGTH] if _is_url(text) else Path(text).name or text or "An empty path"


def convert_image_input(source: Any) -> Path | bytes | Image.Image:
    """Convert an image input to a path, a file's bytes or an image.

    Args:
        source: an ``ImageInput``. An array is [H, W, channels], [channels, H, W] or [H, W] with 1 to 4 channels (grey,
            grey and alpha, RGB, RGBA), of bool, uint8, floats from 0 to 1, or other integers, which are scaled to 8
            bits as in a file. A tensor likewise; if either order of its axes is possible, the channels come first. A
            stream is read from its beginning, and its position stays.

    Raises:
        ImageReadError: if it is of an accepted type but no image: a URL, an array whose shape or values are ambiguous,
            a closed file.
        TypeError: for other types.
    """
    if isinstance(source, Image.Image):
        return _keep_16_bits(source)
    if isinstance(source, str | os.PathLike):
        return _to_path(os.fsdecode(source))
    if isinstance(source, memoryview) and (source.ndim != 1 or source.format not in ("B", "b", "c")):
        source = np.asarray(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, torch.Tensor):
        return _array_to_image(_tensor_to_numpy(source), channels_first=True)
    if hasattr(source, "read"):
        return _read_stream(source)
    if hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
        return _array_to_image(np.asarray(source), channels_first=False)
    several = (
        "; of several pictures give one flat list, and none of their labels" if hasattr(source, "__iter__") else ""
    )
    raise TypeError(f"A picture is {ACCEPTED_INPUTS}, not {type(source).__name__}{several}.")


def reject_url(source: str | os.PathLike[str]) -> None:
    """Raise ``InputError`` if a URL is given in place of a path."""
    text = os.fspath(source)
    if _is_url(text):
        raise InputError(
            f"{sanitize(text)} is a web address, and nothing is fetched here; download it, and give the path of the "
            "file or the folder."
        )


def _is_url(text: str) -> bool:
    return bool(_URL.match(text) or text.startswith("data:")) and not os.path.exists(text)


def _to_path(text: str) -> Path:
    if _is_url(text):
        if text.startswith("data:"):
            reason = "is a data address; give the bytes in it, base64.b64decode(address.partition(',')[2])"
        else:
            reason = "is a web address, and nothing is fetched here; download the picture and give its path or bytes"
        raise ImageReadError(get_input_name(text), reason)
    return Path(text)


def _keep_16_bits(image: Image.Image) -> Image.Image | bytes:
    """The image, or its file's bytes if decoding it with Pillow would drop the lower byte of 16-bit samples."""
    if not isinstance(image, ImageFile) or not image.tile:
        return image
    if image.fp is None or image.fp.closed:
        raise ImageReadError(UNNAMED_IMAGE, "was closed before it was read; open it again, or give its path")
    return _read_stream(image.fp) if bit_depth.has_16_bit_rawmode(image) and image.tell() == 0 else image


def _read_stream(stream: IO[bytes] | io.TextIOBase) -> bytes:
    """All bytes of a stream, or one byte more than the largest image file may have."""
    if isinstance(stream, io.TextIOBase):
        raise TypeError("This file is open as text. Open it in binary mode, open(path, 'rb'), or give its path.")
    chunks, remaining, position = [], get_limits().file_bytes + 1, None
    try:
        if getattr(stream, "seekable", lambda: False)():
            position = stream.tell()
            stream.seek(0)
        while remaining > 0 and (chunk := stream.read(min(remaining, MEGABYTE))):
            chunks.append(chunk)
            remaining -= len(chunk)
        if position is not None:
            stream.seek(position)
        return b"".join(chunks)
    except (OSError, ValueError) as error:  # closed, or open for writing only
        raise ImageReadError(UNNAMED_IMAGE, "cannot be read from this stream; open it again for reading") from error


def _tensor_to_numpy(tensor: torch.Tensor) -> npt.NDArray[Any]:
    try:
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point() and tensor.dtype != torch.float64:
            tensor = tensor.float()  # NumPy has no bfloat16
        return tensor.resolve_conj().resolve_neg().numpy()
    except (RuntimeError, TypeError) as error:  # sparse, quantized, or on the meta device
        raise TypeError(f"This tensor's numbers cannot be read: {tensor.layout} on {tensor.device}.") from error


def _array_to_image(array: npt.NDArray[Any], channels_first: bool) -> Image.Image:
    if array.dtype.kind not in "buif":
        raise TypeError(f"An array of {array.dtype} is no picture; give uint8, or floats from 0 to 1.")
    bands = _channels_last(array, channels_first)
    if not bands.size:
        raise ImageReadError(UNNAMED_IMAGE, f"has no pixels, shape {_format_shape(array)}; {_SHAPE_ADVICE}")
    kind = bands.dtype.kind
    try:
        levels = (
            bands
            if bands.dtype == np.uint8
            else {"b": _bools_to_uint8, "f": _floats_to_uint8}.get(kind, _integers_to_uint8)(bands)
        )
    except bit_depth.NonFinitePixelsError as error:
        raise ImageReadError(UNNAMED_IMAGE, bit_depth.NON_FINITE_REASON) from error
    return Image.fromarray(np.ascontiguousarray(levels[..., 0] if levels.shape[-1] == 1 else levels))


def _channels_last(array: npt.NDArray[Any], channels_first: bool) -> npt.NDArray[Any]:
    """The array as [H, W, channels]; ``channels_first`` decides if the shape does not."""
    if array.ndim == 2:
        return array[..., None]
    if array.ndim == 4:
        raise ImageReadError(
            UNNAMED_IMAGE, f"has four axes, shape {_format_shape(array)}, a batch; give its pictures as a list"
        )
    if array.ndim != 3:
        raise ImageReadError(UNNAMED_IMAGE, f"has shape {_format_shape(array)}; {_SHAPE_ADVICE}")
    first, last = (array.shape[axis] in (1, 2, 3, 4) for axis in (0, -1))
    if first and last and not channels_first:
        reason = (
            f"has shape {_format_shape(array)}, where the channels may come first or last; give Image.fromarray of it"
        )
        raise ImageReadError(UNNAMED_IMAGE, reason)
    if not first and not last:
        raise ImageReadError(
            UNNAMED_IMAGE, f"has shape {_format_shape(array)} and so no axis of 1 to 4 channels; {_SHAPE_ADVICE}"
        )
    return np.moveaxis(array, 0, -1) if first else array


def _format_shape(array: npt.NDArray[Any]) -> str:
    return f"({', '.join(map(str, array.shape))})"


def _bools_to_uint8(bands: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return bands.astype(np.uint8) * 255


def _floats_to_uint8(bands: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    low, high = float(bands.min()), float(bands.max())
    bit_depth.find_value_range(low, high, is_float=True)  # raises for NaN and infinity
    if low < -_RANGE_TOLERANCE or high > 1 + _RANGE_TOLERANCE:
        if low < 0:
            advice = "give the picture as it was before it was normalised, as uint8 or as floats from 0 to 1"
        else:
            advice = "give uint8, or divide by the largest possible value, 255 for 8 bits"
        reason = f"holds floats from {low:.3g} to {high:.3g}, where 0 is black and 1 is white; {advice}"
        raise ImageReadError(UNNAMED_IMAGE, reason)
    levels: npt.NDArray[np.uint8] = np.rint(bands.clip(0, 1) * 255).astype(np.uint8)
    return levels


def _integers_to_uint8(bands: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if bands.shape[-1] == 1:
        return bit_depth.scale_to_uint8(bands)
    if bands.min() < 0:
        raise ImageReadError(
            UNNAMED_IMAGE, f"holds colours down to {bands.min()}, and 0 is black; give uint8 or uint16"
        )
    count = bands.shape[-1] - (bands.shape[-1] in (2, 4))  # the last one is alpha
    colours, alpha = bands[..., :count], bands[..., count:]
    if bands.dtype == np.uint16:
        alpha = alpha >> 8  # ranges to 65535, as in a file
    return np.concatenate([bit_depth.scale_to_uint8(colours), alpha.clip(0, 255).astype(np.uint8)], axis=-1)
