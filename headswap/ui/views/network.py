"""How a network is called and drawn: its title, its head's, and the strip of its stages."""

from __future__ import annotations

from collections.abc import Sequence

from headswap.networks.classifier import Classifier, StageOutline
from headswap.networks.stage import count_weights
from headswap.ui.views import stage_strip

TITLES = {"mlp": "MLP", "lda": "LDA"}


def draw(
    model: Classifier,
    outline: Sequence[StageOutline],
    learning: Sequence[str],
    kept_bytes: int | None = None,
    pressing: str = "",
) -> str:
    """The strip of a model: its stages, those named in ``learning`` in the colour of what learns, and its head."""
    blocks = [
        stage_strip.Block(s.name, s.shape, s.weights, "learning" if s.name in learning else "still") for s in outline
    ]
    head = stage_strip.Block(type(model.head).__name__.lower(), (len(model.classes),), head_weights(model), "head")
    return stage_strip.draw(stage_strip.Strip((*blocks, head), kept_bytes, pressing))


def head_weights(model: Classifier) -> int:
    """How many numbers the head has to learn."""
    return count_weights(model.head)


def title(name: str) -> str:
    """A backbone's name as its paper writes it."""
    return name.replace("efficientnet_lite", "EfficientNet-Lite").replace("resnet", "ResNet-").replace("vgg", "VGG-")


def head_title(model: Classifier) -> str:
    """What to call a model's head."""
    name = type(model.head).__name__.lower()
    return TITLES.get(name, name)
