"""The network as a row of blocks: what stands still, what learns, and the boundary between them.

Turns plain data into HTML and into a sentence that says the same. Knows no network, no Gradio and no file;
its colours and every length are in page.css. The number and order of the elements before and inside a block
never change, because Gradio updates a page element by element: so a boundary walks instead of jumping.

`python -m headswap.ui.views.stage_strip out.html` writes it in all its moods.
"""

import math
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

from headswap.common.text import format_bytes, format_count, format_weight_count, join_names
from headswap.ui.views import theme

FULL_HEIGHT_POSITIONS = 112 * 112  # positions of the largest map that is drawn at full height: a stem halves 224 pixels


@dataclass(frozen=True)
class StageBlock:
    """One stage, the pool when it has weights, or the head."""

    name: str  # "stem", "layer1", "linear"
    shape: tuple[int, ...]  # of one image's output: (112, 14, 14), (197, 768) tokens, (1280,); the head's (classes,)
    num_parameters: int  # number of parameters
    state: str  # "still", "learning" or "head"


@dataclass(frozen=True)
class StageStrip:
    """The blocks in order, the head last."""

    blocks: tuple[StageBlock, ...]
    cached_bytes_per_image: int | None = (
        None  # kept for each image at the boundary; None when nothing has been computed
    )
    press_mode: str = ""  # "asks" where a press on a block asks for learning from there on, "waits" where not just now


def render_stage_strip(strip: StageStrip) -> str:
    """The strip as HTML, as wide as its place; a stage's block carries `data-stage`, its index.

    Where blocks can be pressed each carries `data-learning`: how many of the last stages learn from there on.
    """
    blocks, still = strip.blocks, _count_frozen(strip)
    widest = max([FULL_HEIGHT_POSITIONS, *(_count_positions(block) for block in blocks)])
    row = "".join(_render_block(strip, index, still, widest) for index in range(len(blocks)))
    longest = max((len(block.name) for block in blocks), default=0)
    looks = "hs-plan" + " hs-crowded" * (len(blocks) > 10) + " hs-none" * (still == 0)
    # A name that is turned on its side needs a block as tall as it is long; longer ones end in an ellipsis.
    room = f"--n:{len(blocks)};--k:{still};--tall:{min(96, max(52, 20 + 7 * longest))}px"
    if still == 0:
        room += ";--notch:0px"
    return (
        f'<div class="hs-strip" role="{"group" if strip.press_mode else "img"}" aria-label="{escape(describe_strip(strip))}">'
        f'<div class="{looks}" style="{room}">'
        f'<div class="hs-blocks"><div class="hs-boundary"><span>{_boundary_label(strip)}</span></div>{row}</div>'
        f"{_render_groups(blocks, still)}</div></div>"
    )


def describe_strip(strip: StageStrip) -> str:
    """The strip in a sentence: "Stages stem to 5 stand still; 6, 7, last and the head learn."."""
    if not strip.blocks:
        return "No network is chosen yet."
    still, learning, head = (
        [block.name for block in strip.blocks if block.state == state] for state in ("still", "learning", "head")
    )
    movers = [*(learning if len(learning) <= 3 else [_format_range(learning)]), *(["the head"] if head else [])]
    learn = f"{join_names(movers)} {_conjugate('learn', len(learning + head))}"
    if head and not learning:
        learn = "only the head learns"
    if not still:
        return f"Nothing stands still: {learn}."
    stand = f"Stage{'s' * (len(still) > 1)} {_format_range(still)} {_conjugate('stand', len(still))} still"
    kept = (
        ""
        if strip.cached_bytes_per_image is None
        else f" {format_bytes(strip.cached_bytes_per_image)} an image is kept at the boundary."
    )
    return f"{stand}; {learn}.{kept}" if movers else f"{stand}.{kept}"


def _count_frozen(strip: StageStrip) -> int:
    """How many blocks lie left of the boundary."""
    moving = (index for index, block in enumerate(strip.blocks) if block.state != "still")
    return next(moving, len(strip.blocks))


def _render_block(strip: StageStrip, index: int, num_frozen: int, widest: int) -> str:
    block = strip.blocks[index]
    name, many = escape(block.name), format_weight_count(block.num_parameters)
    height = math.log(_count_positions(block)) / math.log(widest)  # each halving of the side is one equal step down
    long = next(least for least in (9, 6, 3, 0) if len(block.name) >= least)  # when it turns on its side
    looks = f"hs-block hs-{escape(block.state)}" + " hs-first" * (0 < num_frozen == index)
    stage = "" if block.state == "head" else f' data-stage="{index}"'
    second = many if block.state == "head" else "tokens" if len(block.shape) == 2 else ""
    tag, press = ("button", _button_attributes(strip, index, num_frozen)) if strip.press_mode else ("div", "")
    return (
        f'<{tag} class="{looks}"{stage}{press} title="{name}: {many}">'
        f'<span class="hs-bar" style="--h:{height:.3f}"><span class="hs-name hs-{long}">{name}</span></span>'
        f'<span class="hs-shape"><span>{_format_output_shape(block)}</span><span>{second}</span></span></{tag}>'
    )


def _button_attributes(strip: StageStrip, index: int, num_frozen: int) -> str:
    """What makes a block a button, and what it then says and asks for."""
    stages = [block.name for block in strip.blocks if block.state != "head"]
    moved = stages[index:]
    names = join_names(moved) if len(moved) <= 3 else _format_range(moved)
    says = f"Let {names} learn too" if moved else "Let only the head learn"
    now = str(index == num_frozen).lower()
    waits = ' disabled=""' if strip.press_mode == "waits" else ""
    return f' type="button" data-learning="{len(moved)}" aria-pressed="{now}" aria-label="{escape(says)}"{waits}'


def _render_groups(blocks: tuple[StageBlock, ...], num_frozen: int) -> str:
    """The brackets below: colour is never the only sign."""
    moving = blocks[num_frozen:]
    only_head = len(moving) == 1 and moving[0].state == "head"
    state, learn = ("head", "the head learns") if only_head else ("learning", _conjugate("learn", len(moving)))
    return (
        '<div class="hs-groups">'
        f'<div class="hs-group hs-still"><span>{_conjugate("stand", num_frozen)} still</span></div>'
        f'<div class="hs-group hs-{state}"><span>{learn}</span></div></div>'
    )


def _boundary_label(strip: StageStrip) -> str:
    return (
        "boundary"
        if strip.cached_bytes_per_image is None
        else f"boundary: {format_bytes(strip.cached_bytes_per_image)} an image kept"
    )


def _count_positions(block: StageBlock) -> int:
    """In how many places the output says something: a map's pixels, the tokens, one for a vector."""
    places = {3: block.shape[1:], 2: block.shape[:1]}.get(len(block.shape), ())
    return max(1, math.prod(places))


def _format_output_shape(block: StageBlock) -> str:
    if block.state == "head":
        return format_count(block.shape[0], "class", "classes")
    if len(block.shape) == 3:
        channels, height, width = block.shape
        return f"{channels}·{height}²" if height == width else f"{channels}·{height}×{width}"
    if len(block.shape) == 2:
        return f"{block.shape[1]}·{block.shape[0]}"
    return "·".join(map(str, block.shape))


def _format_range(names: list[str]) -> str:
    return join_names(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"


def _conjugate(verb: str, subjects: int) -> str:
    return f"{verb}s" if subjects == 1 else verb


def _demo_strips() -> dict[str, str]:
    def row(
        names: str, shapes: list[tuple[int, ...]], still: int, head: str, kept: int | None = None, pressing: str = ""
    ) -> str:
        states = ["still" if index < still else "learning" for index in range(len(shapes))]
        stages = [
            StageBlock(name, shape, 9 * shape[0] ** 2, state)
            for name, shape, state in zip(names.split(), shapes, states, strict=True)
        ]
        return render_stage_strip(
            StageStrip((*stages, StageBlock(head, (3,), 3 * (shapes[-1][0] + 1), "head")), kept, pressing)
        )

    lite = [(32, 112, 112), (16, 112, 112), (24, 56, 56), (40, 28, 28), (80, 14, 14), (112, 14, 14)]
    lite += [(192, 7, 7), (320, 7, 7), (1280, 7, 7)]
    resnet = [(64, 56, 56), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
    dense = [
        (64 * 2 ** (index // 3), side, side) for index, side in enumerate([56, 56, 56, 28, 28, 28, 14, 14, 14, 7, 7])
    ]
    names = "stem 1 2 3 4 5 6 7 last"
    blocks = "conv0 " + " ".join(f"denseblock{index} transition{index}" for index in range(1, 5)) + " norm5 pool5"
    return {
        "EfficientNet-Lite0, six stages stand still": row(names, lite, 6, "linear", 351_000),
        "EfficientNet-Lite0, only the head learns": row(names, lite, 9, "linear", 251_000),
        "To be pressed": row(names, lite, 6, "linear", pressing="asks"),
        "EfficientNet-Lite0, one stage stands still": row(names, lite, 1, "bottleneck", 1_605_632),
        "EfficientNet-Lite0, everything learns": row(names, lite, 0, "linear"),
        "ResNet-18": row("stem layer1 layer2 layer3 layer4", resnet, 4, "classifier", 200_704),
        "Fourteen blocks": row(f"{blocks} flat fc6", [*dense, (4096,), (4096,)], 7, "classifier", 1_003_520),
        "ViT-B/16": row("patches " + " ".join(map(str, range(1, 13))), [(197, 768)] * 13, 13, "attention", 605_184),
        "A photograph that is not square": row("stem body", [(32, 112, 96), (112, 14, 12)], 1, "mlp"),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(theme.render_gallery(_demo_strips()), encoding="utf-8")
