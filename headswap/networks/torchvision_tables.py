"""Tables of what only building torchvision's networks would show: features, stages and families.

Networks of newer versions of torchvision are missing. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class TorchvisionShape(NamedTuple):
    """What is known of the shape of a network.

    Attributes:
        features: width of the pooled features.
        stages: number of stages.
    """

    features: int
    stages: int


# Width of the pooled features, number of stages, and the networks that have these.
_ROWS = (
    (400, 5, "regnet_x_400mf"),
    (440, 5, "regnet_y_400mf"),
    (512, 5, "maxvit_t resnet18 resnet34"),
    (512, 9, "squeezenet1_0 squeezenet1_1"),
    (672, 5, "regnet_x_800mf"),
    (768, 5, "convnext_small convnext_tiny swin_s swin_t swin_v2_s swin_v2_t"),
    (768, 13, "vit_b_16 vit_b_32"),
    (784, 5, "regnet_y_800mf"),
    (888, 5, "regnet_y_1_6gf"),
    (912, 5, "regnet_x_1_6gf"),
    (1008, 5, "regnet_x_3_2gf"),
    (1024, 5, "convnext_base densenet121 shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 swin_b swin_v2_b"),
    (1024, 7, "mobilenet_v3_small"),
    (1024, 10, "googlenet"),
    (1024, 13, "vit_l_16 vit_l_32"),
    (1280, 8, "efficientnet_v2_s mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v3_large"),
    (1280, 9, "efficientnet_b0 efficientnet_b1 efficientnet_v2_l efficientnet_v2_m mobilenet_v2"),
    (1280, 12, "vit_h_14"),
    (1408, 9, "efficientnet_b2"),
    (1512, 5, "regnet_y_3_2gf"),
    (1536, 5, "convnext_large"),
    (1536, 9, "efficientnet_b3"),
    (1664, 5, "densenet169"),
    (1792, 9, "efficientnet_b4"),
    (1920, 5, "densenet201 regnet_x_8gf"),
    (2016, 5, "regnet_y_8gf"),
    (2048, 5, "regnet_x_16gf resnet50 resnet101 resnet152 resnext50_32x4d resnext101_32x8d resnext101_64x4d"),
    (2048, 5, "shufflenet_v2_x2_0 wide_resnet50_2 wide_resnet101_2"),
    (2048, 9, "efficientnet_b5"),
    (2048, 12, "inception_v3"),
    (2208, 5, "densenet161"),
    (2304, 9, "efficientnet_b6"),
    (2520, 5, "regnet_x_32gf"),
    (2560, 9, "efficientnet_b7"),
    (3024, 5, "regnet_y_16gf"),
    (3712, 5, "regnet_y_32gf"),
    (4096, 5, "alexnet vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn"),
    (7392, 5, "regnet_y_128gf"),
)

TORCHVISION_SHAPES: Mapping[str, TorchvisionShape] = MappingProxyType(
    {name: TorchvisionShape(features, stages) for features, stages, names in _ROWS for name in names.split()}
)

# Families by the beginning of the networks' names; the first that matches counts.
_FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "alexnet": "AlexNet",
        "convnext": "ConvNeXt",
        "densenet": "DenseNet",
        "efficientnet_v2": "EfficientNetV2",
        "efficientnet": "EfficientNet",
        "googlenet": "GoogLeNet",
        "inception": "Inception v3",
        "maxvit": "MaxViT",
        "mnasnet": "MnasNet",
        "mobilenet_v2": "MobileNetV2",
        "mobilenet_v3": "MobileNetV3",
        "regnet": "RegNet",
        "resnet": "ResNet",
        "resnext": "ResNeXt",
        "shufflenet": "ShuffleNetV2",
        "squeezenet": "SqueezeNet",
        "swin_v2": "Swin V2",
        "swin": "Swin",
        "vgg": "VGG",
        "vit": "ViT",
        "wide_resnet": "Wide ResNet",
    }
)


def find_torchvision_family(name: str) -> str:
    """The family of a network of ``TORCHVISION_SHAPES``, as its authors write it; "" for any other."""
    if name not in TORCHVISION_SHAPES:
        return ""
    return next((family for prefix, family in _FAMILIES.items() if name.startswith(prefix)), "")
