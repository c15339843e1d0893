"""Names a network for the page, and renders its stages as a strip."""

from __future__ import annotations

from collections.abc import Sequence

from headswap.networks.classifier import Classifier, StageSummary
from headswap.networks.stage import count_parameters
from headswap.ui.views.stage_strip import StageBlock, StageStrip, render_stage_strip

HEAD_TITLES = {"mlp": "MLP", "lda": "LDA"}


def render_network(
    model: Classifier,
    stage_outlines: Sequence[StageSummary],
    trainable_stages: Sequence[str],
    kept_bytes: int | None = None,
    interaction: str = "",
) -> str:
    """The strip of a model's stages and its head.

    Args:
        model: The model; may be on the meta device.
        stage_outlines: What ``model.summarize_stages()`` returns.
        trainable_stages: Names of the stages that are shown as learning.
        kept_bytes: Size of one image's cached features at the boundary; None if there are none.
        interaction: The strip's ``press_mode``.
    """
    blocks = [
        StageBlock(each.name, each.shape, each.num_parameters, "learning" if each.name in trainable_stages else "still")
        for each in stage_outlines
    ]
    head_name = type(model.head).__name__.lower()
    head = StageBlock(head_name, (len(model.classes),), count_head_parameters(model), "head")
    return render_stage_strip(StageStrip((*blocks, head), kept_bytes, interaction))


def count_head_parameters(model: Classifier) -> int:
    """Number of parameters of the head."""
    return count_parameters(model.head)


def backbone_title(name: str) -> str:
    """A backbone's name in the spelling of its paper."""
    return name.replace("efficientnet_lite", "EfficientNet-Lite").replace("resnet", "ResNet-").replace("vgg", "VGG-")


def head_title(model: Classifier) -> str:
    """The name of a model's head as the page writes it."""
    name = type(model.head).__name__.lower()
    return HEAD_TITLES.get(name, name)
