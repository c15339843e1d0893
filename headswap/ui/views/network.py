"""How a network is called and drawn: its title, its head's, and the strip of its stages."""

from __future__ import annotations

from collections.abc import Sequence

from headswap.networks.classifier import Classifier, StageSummary
from headswap.networks.stage import count_parameters
from headswap.ui.views import stage_strip

HEAD_TITLES = {"mlp": "MLP", "lda": "LDA"}


def render_network(
    model: Classifier,
    stage_outlines: Sequence[StageSummary],
    trainable_stages: Sequence[str],
    kept_bytes: int | None = None,
    interaction: str = "",
) -> str:
    """The strip of a model: its stages, those named in ``learning`` in the colour of what learns, and its head."""
    blocks = [
        stage_strip.StageBlock(s.name, s.shape, s.num_parameters, "learning" if s.name in trainable_stages else "still")
        for s in stage_outlines
    ]
    head = stage_strip.StageBlock(
        type(model.head).__name__.lower(), (len(model.classes),), count_head_parameters(model), "head"
    )
    return stage_strip.render_stage_strip(stage_strip.StageStrip((*blocks, head), kept_bytes, interaction))


def count_head_parameters(model: Classifier) -> int:
    """How many numbers the head has to learn."""
    return count_parameters(model.head)


def backbone_title(name: str) -> str:
    """A backbone's name as its paper writes it."""
    return name.replace("efficientnet_lite", "EfficientNet-Lite").replace("resnet", "ResNet-").replace("vgg", "VGG-")


def head_title(model: Classifier) -> str:
    """What to call a model's head."""
    name = type(model.head).__name__.lower()
    return HEAD_TITLES.get(name, name)
