"""How a network wants its pixels: size, crop, interpolation, mean and deviation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torchvision import models as tv
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as pictures

from headswap.common.deprecation import renamed_attributes
from headswap.common.text import suggest_names
from headswap.data.decoding import MAX_ASPECT_RATIO, read_pixels

CROP_MODES = ("centre", "fit")


@renamed_attributes(deviation="std", normalise="normalize", square="crop_to_square")
@dataclass(frozen=True)
class Preprocess:
    """How a network wants its pixels: the weights' own size, crop, interpolation, mean and deviation.

    Training, prediction and the page all go through this one object, so they cannot disagree.
    """

    size: int  # pixels a side of the square that the network sees
    resize: int  # the shorter side, in pixels, to which a picture is brought before the centre of it is cut out
    interpolation: str  # "bicubic" or "bilinear"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: str = "centre"  # the centre, as the weights were measured, or "fit": the whole picture, squeezed to a square

    def __post_init__(self) -> None:
        if self.crop not in CROP_MODES:
            raise ValueError(f"There is no crop '{self.crop}'. {suggest_names(self.crop, CROP_MODES)}")

    def __call__(self, image: Any) -> Tensor:
        """What the network gets to see of a picture.

        Args:
            picture: whatever ``read_pixels`` reads. Pixels that it has read already, uint8 ``[3, H, W]`` whose shorter
                side is ``resize``, stay as they are to the last bit.

        Returns:
            A float tensor ``[3, size, size]``, normalised.

        Raises:
            InputError: if it cannot be read as a picture.
            TypeError: if it is no picture at all.
        """
        is_read = isinstance(image, Tensor) and self._is_decoded(image)
        pixels = image if is_read else read_pixels(image, self.resize, self.interpolation)
        return self.normalize(self.crop_to_square(pixels))

    def _is_decoded(self, pixels: Tensor) -> bool:
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or len(pixels) != 3:
            return False
        short, long = sorted(pixels.shape[1:])
        return short == self.resize and long <= MAX_ASPECT_RATIO * short

    def crop_to_square(self, pixels: Tensor) -> Tensor:
        """What the network gets to see, before it is normalised: uint8 ``[3, H, W]`` to ``[3, size, size]``."""
        side = [self.size, self.size]
        if self.crop == "centre":
            return pictures.center_crop(pixels, side)
        return pictures.resize(pixels, side, InterpolationMode(self.interpolation), antialias=True)

    def normalize(self, pixels: Tensor) -> Tensor:
        """From uint8 ``[..., 3, size, size]`` to float with the weights' mean and deviation."""
        return pictures.normalize(pixels.float() / 255, list(self.mean), list(self.std))


def get_preprocess(network: nn.Module) -> Preprocess:
    """How a network that somebody built wants its pixels: timm's say it, of the others ImageNet's way is true."""
    if hasattr(network, "pretrained_cfg"):
        return _get_timm_preprocess(network)
    size = 299 if isinstance(network, tv.Inception3) else 224
    return Preprocess(size, round(size / 0.875), "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _get_timm_preprocess(network: nn.Module) -> Preprocess:
    wanted = resolve_model_data_config(network)
    size = wanted["input_size"][-1]
    resize = int(size / wanted["crop_pct"])
    return Preprocess(size, resize, wanted["interpolation"], tuple(wanted["mean"]), tuple(wanted["std"]))
