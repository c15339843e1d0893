"""Defines ``Preprocess``: the size, crop, interpolation, mean and standard deviation of a network's input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn
from torchvision import models as tv
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from headswap.common.deprecation import renamed_attributes
from headswap.common.text import suggest_names
from headswap.data.decoding import MAX_ASPECT_RATIO, read_pixels
from headswap.data.picture_inputs import ImageInput

CROP_MODES = ("centre", "fit")


@renamed_attributes(deviation="std", normalise="normalize", square="crop_to_square")
@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of a network: the weights' own size, crop, interpolation, mean and standard deviation.

    Training, prediction and the page all go through this one object, so they cannot disagree.

    Attributes:
        size: pixels a side of the square that the network takes.
        resize: pixels of the shorter side to which an image is resized before it is cropped.
        interpolation: "bicubic" or "bilinear".
        mean: of the red, green and blue values, from 0 to 1.
        std: standard deviation of the same.
        crop: "centre", as the weights were evaluated, or "fit": the whole image, squeezed to a square.
    """

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: str = "centre"

    def __post_init__(self) -> None:
        if self.crop not in CROP_MODES:
            raise ValueError(f"There is no crop '{self.crop}'. {suggest_names(self.crop, CROP_MODES)}")

    def __call__(self, image: ImageInput) -> Tensor:
        """Turn an image into the network's input.

        Args:
            image: whatever ``read_pixels`` reads. Decoded pixels, uint8 ``[3, H, W]`` whose shorter side is
                ``resize``, are used as they are, to the last bit.

        Returns:
            A float tensor ``[3, size, size]``, normalized.

        Raises:
            InputError: if it cannot be decoded as an image.
            TypeError: if it is no image at all.
        """
        if isinstance(image, Tensor) and self._is_decoded(image):
            pixels = image
        else:
            pixels = read_pixels(image, self.resize, self.interpolation)
        return self.normalize(self.crop_to_square(pixels))

    def _is_decoded(self, pixels: Tensor) -> bool:
        if pixels.dtype != torch.uint8 or pixels.ndim != 3 or len(pixels) != 3:
            return False
        short, long = sorted(pixels.shape[1:])
        return short == self.resize and long <= MAX_ASPECT_RATIO * short

    def crop_to_square(self, pixels: Tensor) -> Tensor:
        """Crop or squeeze uint8 ``[3, H, W]`` to the square ``[3, size, size]`` that the network takes."""
        square = [self.size, self.size]
        cropped: Tensor
        if self.crop == "centre":
            cropped = F.center_crop(pixels, square)
        else:
            cropped = F.resize(pixels, square, InterpolationMode(self.interpolation), antialias=True)
        return cropped

    def normalize(self, pixels: Tensor) -> Tensor:
        """Turn uint8 ``[..., 3, size, size]`` into floats, normalized by ``mean`` and ``std``."""
        normalized: Tensor = F.normalize(pixels.float() / 255, list(self.mean), list(self.std))
        return normalized


def get_preprocess(network: nn.Module) -> Preprocess:
    """The preprocessing of a network: what timm's networks declare, for any other torchvision's ImageNet default."""
    if hasattr(network, "pretrained_cfg"):
        return get_timm_preprocess(network)
    size = 299 if isinstance(network, tv.Inception3) else 224
    return Preprocess(size, round(size / 0.875), "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def get_timm_preprocess(network: nn.Module) -> Preprocess:
    """The preprocessing that a network of timm declares in its pretrained configuration."""
    config = resolve_model_data_config(network)  # type: ignore[no-untyped-call]  # timm leaves it untyped
    size = config["input_size"][-1]
    resize = int(size / config["crop_pct"])
    return Preprocess(size, resize, config["interpolation"], tuple(config["mean"]), tuple(config["std"]))
