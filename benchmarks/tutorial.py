"""The other side of the benchmarks: what tutorials do, with nothing of headswap but the pixels and the network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import headswap
from headswap.data.decoding import read_pixels
from headswap.networks.preprocess import Preprocess


class Photographs(Dataset):
    """Decoded whenever they are asked for, as ``ImageFolder`` does it; a flip half of the time while learning."""

    def __init__(self, images: headswap.LabelledImages, preprocess, learning: bool) -> None:
        self.images, self.preprocess, self.learning = images, preprocess, learning

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, object]:
        wanted = self.preprocess
        x = wanted(read_pixels(self.images.paths[i], wanted.resize, wanted.interpolation))
        return (x.flip(-1) if self.learning and torch.rand(()) < 0.5 else x), self.images.labels[i]


def network(backbone: str, classes: int) -> tuple[nn.Sequential, nn.Linear, Preprocess]:
    """The pretrained network with a new last layer, as one ``nn.Sequential``; the layer; how it wants its pixels."""
    model = headswap.adapt(backbone, classes)
    body = nn.Sequential(*model.feature_stages)
    for part in model.feature_stages:
        part.unfreeze()
    last = model.head.get_submodule("linear")
    assert isinstance(last, nn.Linear)
    head = nn.Linear(last.in_features, classes)
    return nn.Sequential(body, head), head, model.preprocess


def learn(
    net: nn.Module,
    learning: nn.Module,
    loader: Iterable[tuple[torch.Tensor, torch.Tensor]],
    epochs: int,
    rate: float,
) -> None:
    """The loop: the whole network forward and, as far as it learns, backward, in every epoch."""
    net.requires_grad_(False)
    learning.requires_grad_(True)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], rate)
    for _ in range(epochs):
        net.train() if learning is net else net.eval()
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(net: nn.Module, images: headswap.LabelledImages, preprocess) -> float:
    """The share that is named rightly."""
    net.eval()
    right = 0
    for x, y in DataLoader(Photographs(images, preprocess, learning=False), batch_size=32):
        right += int((net(x).argmax(1) == y).sum())
    return right / len(images)
