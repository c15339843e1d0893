"""Whatever somebody hands over as one picture: a path, a file's bytes, a stream, a PIL image, an array or a tensor.

Each becomes a path, bytes or a PIL image that shows what its file would show, or a sentence that says what to give
instead. Decodes no file.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from PIL.ImageFile import ImageFile

from headswap.common.errors import InputError, PictureError
from headswap.common.limits import MEGABYTE, limits
from headswap.common.text import harmless
from headswap.data import bit_depth

Picture = str | os.PathLike[str] | Image.Image | np.ndarray | torch.Tensor | bytes | bytearray | memoryview | BinaryIO

UNNAMED = "The picture"  # of what has no name of its own
KINDS = "a path, a PIL image, an array, a tensor, a file's bytes, or a file that is open in binary mode"
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+:/|www\.)", re.IGNORECASE)  # C:/ is a drive
_SHOWN = 200  # characters of an address
_AXES = "give [H, W, 3], [3, H, W] or grey [H, W]"
_ROUNDING = 1e-3  # by which resizing and half precision may leave the range from 0 to 1


def name_of(given: object) -> str:
    """What to call a picture in a sentence about it: its file's name, or UNNAMED."""
    if not isinstance(given, str | os.PathLike):
        return UNNAMED
    text = os.fsdecode(given)
    return text[:_SHOWN] if _is_address(text) else Path(text).name or text or "An empty path"


def understood(given: Any) -> Path | bytes | Image.Image:
    """What is handed over, as a path, a file's bytes or an image.

    Args:
        given: of an array [H, W, channels], [channels, H, W] or [H, W] of 1 to 4 channels (grey, grey and alpha, RGB,
            RGBA): bool, uint8, floats from 0 to 1, or deeper integers, which become 8 bits as in a file. A tensor the
            same, and where both orders are possible the channels come first. A stream is read from its beginning and
            left where it stood.

    Raises:
        PictureError: for what is of a right kind but no picture: a web address, an array whose axes or values do not
            say how it looks, a closed file.
        TypeError: for something else.
    """
    if isinstance(given, Image.Image):
        return _all_bits(given)
    if isinstance(given, str | os.PathLike):
        return _path(os.fsdecode(given))
    if isinstance(given, memoryview) and (given.ndim != 1 or given.format not in ("B", "b", "c")):
        given = np.asarray(given)
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    if isinstance(given, torch.Tensor):
        return _image(_array(given), channels_first=True)
    if hasattr(given, "read"):
        return _content(given)
    if hasattr(given, "__array__") or hasattr(given, "__array_interface__"):
        return _image(np.asarray(given), channels_first=False)
    several = "; of several pictures give one flat list, and none of their labels" if hasattr(given, "__iter__") else ""
    raise TypeError(f"A picture is {KINDS}, not {type(given).__name__}{several}.")


def refuse_address(source: str | os.PathLike[str]) -> None:
    """Raises ``InputError`` where an address in the web stands in place of a file or a folder."""
    text = os.fspath(source)
    if _is_address(text):
        raise InputError(
            f"{harmless(text)} is a web address, and nothing is fetched here; download it, and give the path of the "
            "file or the folder."
        )


def _is_address(text: str) -> bool:
    return bool(_ADDRESS.match(text) or text.startswith("data:")) and not os.path.exists(text)


def _path(text: str) -> Path:
    if _is_address(text):
        if text.startswith("data:"):
            reason = "is a data address; give the bytes in it, base64.b64decode(address.partition(',')[2])"
        else:
            reason = "is a web address, and nothing is fetched here; download the picture and give its path or bytes"
        raise PictureError(name_of(text), reason)
    return Path(text)


def _all_bits(image: Image.Image) -> Image.Image | bytes:
    """The image, or its file's bytes where Pillow is about to cut its 16 bits a sample to 8."""
    if not isinstance(image, ImageFile) or not image.tile:
        return image
    if image.fp is None or image.fp.closed:
        raise PictureError(UNNAMED, "was closed before it was read; open it again, or give its path")
    return _content(image.fp) if bit_depth.has_lower_bytes(image) and image.tell() == 0 else image


def _content(stream: BinaryIO) -> bytes:
    """All bytes of a stream, or one byte more than may be read of it."""
    if isinstance(stream, io.TextIOBase):
        raise TypeError("This file is open as text. Open it in binary mode, open(path, 'rb'), or give its path.")
    pieces, missing, place = [], limits().file_bytes + 1, None
    try:
        if getattr(stream, "seekable", lambda: False)():
            place = stream.tell()
            stream.seek(0)
        while missing > 0 and (piece := stream.read(min(missing, MEGABYTE))):
            pieces.append(piece)
            missing -= len(piece)
        if place is not None:
            stream.seek(place)
        return b"".join(pieces)
    except (OSError, ValueError) as error:  # closed, or open for writing alone
        raise PictureError(UNNAMED, "cannot be read from this stream; open it again for reading") from error


def _array(tensor: torch.Tensor) -> np.ndarray:
    try:
        tensor = tensor.detach().cpu()
        if tensor.is_floating_point() and tensor.dtype != torch.float64:
            tensor = tensor.float()  # numpy has no bfloat16
        return tensor.resolve_conj().resolve_neg().numpy()
    except (RuntimeError, TypeError) as error:  # sparse, quantised, or without numbers
        raise TypeError(f"This tensor's numbers cannot be read: {tensor.layout} on {tensor.device}.") from error


def _image(array: np.ndarray, channels_first: bool) -> Image.Image:
    if array.dtype.kind not in "buif":
        raise TypeError(f"An array of {array.dtype} is no picture; give uint8, or floats from 0 to 1.")
    bands = _channels_last(array, channels_first)
    if not bands.size:
        raise PictureError(UNNAMED, f"has no pixels, shape {_shape(array)}; {_AXES}")
    kind = bands.dtype.kind
    try:
        levels = bands if bands.dtype == np.uint8 else {"b": _of_bools, "f": _of_shares}.get(kind, _of_integers)(bands)
    except bit_depth.NotFinite as error:
        raise PictureError(UNNAMED, bit_depth.NOT_FINITE) from error
    return Image.fromarray(np.ascontiguousarray(levels[..., 0] if levels.shape[-1] == 1 else levels))


def _channels_last(array: np.ndarray, channels_first: bool) -> np.ndarray:
    """The array as [H, W, channels]."""
    if array.ndim == 2:
        return array[..., None]
    if array.ndim == 4:
        raise PictureError(UNNAMED, f"has four axes, shape {_shape(array)}, a batch; give its pictures as a list")
    if array.ndim != 3:
        raise PictureError(UNNAMED, f"has shape {_shape(array)}; {_AXES}")
    first, last = (array.shape[axis] in (1, 2, 3, 4) for axis in (0, -1))
    if first and last and not channels_first:
        reason = f"has shape {_shape(array)}, where the channels may come first or last; give Image.fromarray of it"
        raise PictureError(UNNAMED, reason)
    if not first and not last:
        raise PictureError(UNNAMED, f"has shape {_shape(array)} and so no axis of 1 to 4 channels; {_AXES}")
    return np.moveaxis(array, 0, -1) if first else array


def _shape(array: np.ndarray) -> str:
    return f"({', '.join(map(str, array.shape))})"


def _of_bools(bands: np.ndarray) -> np.ndarray:
    return bands.astype(np.uint8) * 255


def _of_shares(bands: np.ndarray) -> np.ndarray:
    low, high = float(bands.min()), float(bands.max())
    bit_depth.span(low, high, fractions=True)  # or they are no numbers
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        if low < 0:
            advice = "give the picture as it was before it was normalised, as uint8 or as floats from 0 to 1"
        else:
            advice = "give uint8, or divide by the largest possible value, 255 for 8 bits"
        reason = f"holds floats from {low:.3g} to {high:.3g}, where 0 is black and 1 is white; {advice}"
        raise PictureError(UNNAMED, reason)
    return np.rint(bands.clip(0, 1) * 255).astype(np.uint8)


def _of_integers(bands: np.ndarray) -> np.ndarray:
    if bands.shape[-1] == 1:
        return bit_depth.eight_bits(bands)
    if bands.min() < 0:
        raise PictureError(UNNAMED, f"holds colours down to {bands.min()}, and 0 is black; give uint8 or uint16")
    count = bands.shape[-1] - (bands.shape[-1] in (2, 4))  # the last one is alpha
    colours, alpha = bands[..., :count], bands[..., count:]
    if bands.dtype == np.uint16:
        alpha = alpha >> 8  # as in a file, a share of 65535
    return np.concatenate([bit_depth.eight_bits(colours), alpha.clip(0, 255).astype(np.uint8)], axis=-1)
