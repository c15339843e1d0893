"""Splits torchvision networks into named stages, a pooling stage and the original classifier.

One function for each family, chosen by the class of the network and never by its name, so that it applies to every size
and every subclass. Each function only defines the split points; the modules are the network's own, so running the parts
one after the other computes the network's own logits. Networks of timm are passed on to ``split_timm``.

Knows nothing of weight files, of heads or of training.
"""

from __future__ import annotations

from functools import singledispatch
from itertools import groupby

import timm.models
import torch
from torch import Tensor, nn
from torchvision import models as tv

from headswap.common.errors import InputError
from headswap.networks.split_timm import split_timm_into_stages
from headswap.networks.stage import Stage, StagedNetwork, group_blocks, make_stages
from headswap.networks.timm_modules import is_timm_network


class ClassTokenPool(nn.Module):
    """The first of the tokens: ``[N, positions, channels]`` to ``[N, channels]``."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Select the class token."""
        return tokens[:, 0]


class GlobalMeanPool(nn.Module):
    """``[N, channels, H, W]`` to ``[N, channels]``, as ShuffleNet and MNASNet pool."""

    def forward(self, x: Tensor) -> Tensor:
        """Average over the positions."""
        return x.mean([2, 3])


class TransformInput(nn.Module):
    """Renormalizes from ImageNet's mean and standard deviation to 0.5 and 0.5, as GoogLeNet and Inception expect."""

    def forward(self, x: Tensor) -> Tensor:
        """Renormalize images ``[N, 3, H, W]``."""
        means, stds = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        channels = [
            x[:, [i]] * (std / 0.5) + (mean - 0.5) / 0.5 for i, (mean, std) in enumerate(zip(means, stds, strict=True))
        ]
        return torch.cat(channels, 1)


class PatchEmbedding(nn.Module):
    """ViT up to its first block: ``[N, 3, H, W]`` to tokens ``[N, 1 + patches, channels]``, the class token first."""

    conv_proj: nn.Module
    class_token: nn.Parameter
    pos_embedding: nn.Parameter
    dropout: nn.Module

    def __init__(self, network: tv.VisionTransformer) -> None:
        super().__init__()
        self.conv_proj = network.conv_proj
        self.class_token = network.class_token
        self.pos_embedding = network.encoder.pos_embedding
        self.dropout = network.encoder.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Embed images as tokens."""
        patches = self.conv_proj(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), patches], dim=1)
        embedded: Tensor = self.dropout(tokens + self.pos_embedding)
        return embedded


@singledispatch
def split_into_stages(network: nn.Module) -> StagedNetwork:
    """Split a network into stages, which share its modules.

    Args:
        network: of torchvision or timm, complete with its original last layer.

    Raises:
        InputError: if the class of the network is not known.
    """
    if is_timm_network(network):
        return split_timm_into_stages(network)
    raise InputError(
        f"A network of the class {type(network).__name__} cannot be taken apart into stages. "
        "Choose another of headswap.backbones()."
    )


def _group_by_out_channels(blocks: list[nn.Module]) -> dict[str, list[nn.Module]]:
    """Group neighbouring blocks with the same number of output channels, which are one row in the paper's table."""
    groups = [list(group) for _, group in groupby(blocks, key=lambda block: block.out_channels)]
    return {str(i): group for i, group in enumerate(groups, 1)}


def _split_after(module_type: type[nn.Module], modules: nn.Sequential) -> list[list[nn.Module]]:
    """Group modules so that each group ends with a module of this type; the rest is the last group."""
    groups: list[list[nn.Module]] = [[]]
    for module in modules:
        groups[-1].append(module)
        if isinstance(module, module_type):
            groups.append([])
    return [group for group in groups if group]


@split_into_stages.register
def _(network: tv.AlexNet) -> StagedNetwork:
    f = list(network.features)
    stages = make_stages(conv1=f[:3], conv2=f[3:6], conv3=f[6:8], conv4=f[8:10], conv5=f[10:])
    return StagedNetwork(stages, Stage(network.avgpool, nn.Flatten(), *network.classifier[:-1]), network.classifier[-1])


@split_into_stages.register
def _(network: tv.VGG) -> StagedNetwork:
    blocks = _split_after(nn.MaxPool2d, network.features)
    stages = make_stages(**{f"block{i}": block for i, block in enumerate(blocks, 1)})
    return StagedNetwork(stages, Stage(network.avgpool, nn.Flatten(), *network.classifier[:-1]), network.classifier[-1])


@split_into_stages.register
def _(network: tv.ResNet) -> StagedNetwork:
    stages = make_stages(
        stem=[network.conv1, network.bn1, network.relu, network.maxpool],
        layer1=network.layer1,
        layer2=network.layer2,
        layer3=network.layer3,
        layer4=network.layer4,
    )
    return StagedNetwork(stages, Stage(network.avgpool, nn.Flatten()), network.fc)


@split_into_stages.register
def _(network: tv.DenseNet) -> StagedNetwork:
    f = network.features
    stages = make_stages(
        stem=[f.conv0, f.norm0, f.relu0, f.pool0],
        dense1=[f.denseblock1, f.transition1],
        dense2=[f.denseblock2, f.transition2],
        dense3=[f.denseblock3, f.transition3],
        dense4=[f.denseblock4, f.norm5, nn.ReLU(inplace=True)],
    )
    return StagedNetwork(stages, Stage(nn.AdaptiveAvgPool2d(1), nn.Flatten()), network.classifier)


@split_into_stages.register
def _(network: tv.GoogLeNet) -> StagedNetwork:
    n = network
    transform = [TransformInput()] if n.transform_input else []
    stages = make_stages(
        stem=[*transform, n.conv1, n.maxpool1, n.conv2, n.conv3, n.maxpool2],
        **{"3a": n.inception3a, "3b": [n.inception3b, n.maxpool3]},
        **{"4a": n.inception4a, "4b": n.inception4b, "4c": n.inception4c, "4d": n.inception4d},
        **{"4e": [n.inception4e, n.maxpool4], "5a": n.inception5a, "5b": n.inception5b},
    )
    return StagedNetwork(stages, Stage(n.avgpool, nn.Flatten(), n.dropout), n.fc)


@split_into_stages.register
def _(network: tv.Inception3) -> StagedNetwork:
    n = network
    transform = [TransformInput()] if n.transform_input else []
    stem = [n.Conv2d_1a_3x3, n.Conv2d_2a_3x3, n.Conv2d_2b_3x3, n.maxpool1, n.Conv2d_3b_1x1, n.Conv2d_4a_3x3, n.maxpool2]
    stages = make_stages(
        stem=[*transform, *stem],
        **{"5b": n.Mixed_5b, "5c": n.Mixed_5c, "5d": n.Mixed_5d, "6a": n.Mixed_6a, "6b": n.Mixed_6b},
        **{"6c": n.Mixed_6c, "6d": n.Mixed_6d, "6e": n.Mixed_6e, "7a": n.Mixed_7a, "7b": n.Mixed_7b},
        **{"7c": n.Mixed_7c},
    )
    return StagedNetwork(stages, Stage(n.avgpool, n.dropout, nn.Flatten()), n.fc)


@split_into_stages.register
def _(network: tv.SqueezeNet) -> StagedNetwork:
    fire = type(network.features[-1])
    starts = [i for i, module in enumerate(network.features) if isinstance(module, fire)]
    f = list(network.features)
    fires = {f"fire{n}": f[a:b] for n, (a, b) in enumerate(zip(starts, [*starts[1:], len(f)], strict=True), 2)}
    stages = make_stages(stem=f[: starts[0]], **fires)
    last = nn.Sequential(*network.classifier, nn.Flatten())
    return StagedNetwork(stages, Stage(nn.AdaptiveAvgPool2d(1), nn.Flatten()), last)


@split_into_stages.register
def _(network: tv.ShuffleNetV2) -> StagedNetwork:
    stages = make_stages(
        stem=[network.conv1, network.maxpool],
        stage2=network.stage2,
        stage3=network.stage3,
        stage4=network.stage4,
        conv5=network.conv5,
    )
    return StagedNetwork(stages, Stage(GlobalMeanPool()), network.fc)


@split_into_stages.register
def _(network: tv.MobileNetV2) -> StagedNetwork:
    stem, *blocks, last = network.features
    stages = make_stages(stem=stem, **_group_by_out_channels(blocks), last=last)
    return StagedNetwork(stages, Stage(nn.AdaptiveAvgPool2d(1), nn.Flatten()), network.classifier)


@split_into_stages.register
def _(network: tv.MobileNetV3) -> StagedNetwork:
    stem, *blocks, last = network.features
    stages = make_stages(stem=stem, **_group_by_out_channels(blocks), last=last)
    return StagedNetwork(stages, Stage(network.avgpool, nn.Flatten(), *network.classifier[:-1]), network.classifier[-1])


@split_into_stages.register
def _(network: tv.MNASNet) -> StagedNetwork:
    f = list(network.layers)
    stacks = {str(i): stack for i, stack in enumerate(f[8:14], 1)}
    return StagedNetwork(make_stages(stem=f[:8], **stacks, last=f[14:]), Stage(GlobalMeanPool()), network.classifier)


@split_into_stages.register
def _(network: tv.EfficientNet) -> StagedNetwork:
    stem, *blocks, last = network.features
    stages = make_stages(stem=stem, **{str(i): block for i, block in enumerate(blocks, 1)}, last=last)
    return StagedNetwork(stages, Stage(network.avgpool, nn.Flatten()), network.classifier)


@split_into_stages.register
def _(network: tv.RegNet) -> StagedNetwork:
    stages = make_stages(stem=network.stem, **dict(network.trunk_output.named_children()))
    return StagedNetwork(stages, Stage(network.avgpool, nn.Flatten()), network.fc)


@split_into_stages.register
def _(network: tv.ConvNeXt) -> StagedNetwork:
    f = list(network.features)
    stages = make_stages(stem=f[0], **{"1": f[1], "2": f[2:4], "3": f[4:6], "4": f[6:8]})
    return StagedNetwork(stages, Stage(network.avgpool, *network.classifier[:-1]), network.classifier[-1])


@split_into_stages.register
def _(network: tv.VisionTransformer) -> StagedNetwork:
    blocks = group_blocks(list(network.encoder.layers))  # ViT-H has 32
    stages = make_stages(patches=PatchEmbedding(network), **blocks)
    return StagedNetwork(stages, Stage(network.encoder.ln, ClassTokenPool()), network.heads, channel_dim=-1)


@split_into_stages.register
def _(network: tv.SwinTransformer) -> StagedNetwork:
    f = list(network.features)
    stages = make_stages(patches=f[0], **{"1": f[1], "2": f[2:4], "3": f[4:6], "4": f[6:8]})
    pool = Stage(network.norm, network.permute, network.avgpool, network.flatten)
    return StagedNetwork(stages, pool, network.head, channel_dim=-1)


@split_into_stages.register
def _(network: tv.MaxVit) -> StagedNetwork:
    stages = make_stages(stem=network.stem, **{str(i): block for i, block in enumerate(network.blocks, 1)})
    return StagedNetwork(stages, Stage(*network.classifier[:-1]), network.classifier[-1])


@split_into_stages.register
def _(network: timm.models.EfficientNet) -> StagedNetwork:
    """Split an EfficientNet of timm, each row of whose blocks is a stage."""
    stages = make_stages(
        stem=[network.conv_stem, network.bn1],
        **{str(i): block for i, block in enumerate(network.blocks, 1)},
        last=[network.conv_head, network.bn2],
    )
    return StagedNetwork(stages, Stage(network.global_pool), network.classifier)
