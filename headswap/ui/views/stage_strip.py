"""Renders a network's stages as an HTML strip: frozen stages, learning stages, head, and the boundary between them.

Turns plain data into HTML and into a sentence that says the same. Colours and lengths are in page.css. The number and
the order of the elements before and inside a block never change: Gradio updates the page element by element, so that
CSS transitions animate the boundary when it moves. Knows no network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from headswap.common.text import format_bytes, format_count, format_weight_count, join_names

FULL_HEIGHT_POSITIONS = 112 * 112  # output positions of a block of full height: a stem's of a 224 x 224 image


@dataclass(frozen=True)
class StageBlock:
    """One stage, the pooling layer if it has weights, or the head.

    Attributes:
        name: Such as "stem", "layer1" or "linear".
        shape: Output shape for one image: (channels, height, width), (tokens, channels) or (features,); the head's is
            (classes,).
        num_parameters: Number of weights.
        state: "still" for a frozen stage, "learning" for one that is fine-tuned, or "head".
    """

    name: str
    shape: tuple[int, ...]
    num_parameters: int
    state: str


@dataclass(frozen=True)
class StageStrip:
    """The content of a strip.

    Attributes:
        blocks: The blocks in order, the head last.
        cached_bytes_per_image: Size of one image's features at the boundary; None if none were computed.
        press_mode: "asks" if a click on a block requests fine-tuning from there on, "waits" if the blocks are disabled
            buttons, empty if they are no buttons.
    """

    blocks: tuple[StageBlock, ...]
    cached_bytes_per_image: int | None = None
    press_mode: str = ""


def render_stage_strip(strip: StageStrip) -> str:
    """The strip as HTML, as wide as its container.

    A stage's block has its index in ``data-stage``. If blocks are buttons, each has in ``data-learning`` the number of
    last stages to fine-tune from there on.
    """
    blocks, num_frozen = strip.blocks, _count_frozen(strip)
    max_positions = max([FULL_HEIGHT_POSITIONS, *(_count_positions(block) for block in blocks)])
    row = "".join(_render_block(strip, index, num_frozen, max_positions) for index in range(len(blocks)))
    max_chars = max((len(block.name) for block in blocks), default=0)
    css_classes = "hs-plan" + " hs-crowded" * (len(blocks) > 10) + " hs-none" * (num_frozen == 0)
    # Rotated names need blocks as tall as they are long, up to a limit beyond which page.css truncates them.
    style = f"--n:{len(blocks)};--k:{num_frozen};--tall:{min(96, max(52, 20 + 7 * max_chars))}px"
    if num_frozen == 0:
        style += ";--notch:0px"
    role = "group" if strip.press_mode else "img"
    return (
        f'<div class="hs-strip" role="{role}" aria-label="{escape(describe_strip(strip))}">'
        f'<div class="{css_classes}" style="{style}">'
        f'<div class="hs-blocks"><div class="hs-boundary"><span>{_describe_boundary(strip)}</span></div>{row}</div>'
        f"{_render_groups(blocks, num_frozen)}</div></div>"
    )


def describe_strip(strip: StageStrip) -> str:
    """The strip in a sentence: "Stages stem to 5 stand still; 6, 7, last and the head learn."."""
    if not strip.blocks:
        return "No network is chosen yet."
    frozen, learning, head = (
        [block.name for block in strip.blocks if block.state == state] for state in ("still", "learning", "head")
    )
    learners = [*([_format_range(learning)] if len(learning) > 3 else learning), *(["the head"] if head else [])]
    learn = f"{join_names(learners)} {_conjugate('learn', len(learning + head))}"
    if head and not learning:
        learn = "only the head learns"
    if not frozen:
        return f"Nothing stands still: {learn}."
    stand = f"Stage{'s' * (len(frozen) > 1)} {_format_range(frozen)} {_conjugate('stand', len(frozen))} still"
    kept = ""
    if strip.cached_bytes_per_image is not None:
        kept = f" {format_bytes(strip.cached_bytes_per_image)} an image is kept at the boundary."
    return f"{stand}; {learn}.{kept}" if learners else f"{stand}.{kept}"


def _count_frozen(strip: StageStrip) -> int:
    """Number of blocks before the boundary."""
    unfrozen = (index for index, block in enumerate(strip.blocks) if block.state != "still")
    return next(unfrozen, len(strip.blocks))


def _render_block(strip: StageStrip, index: int, num_frozen: int, max_positions: int) -> str:
    block = strip.blocks[index]
    name, num_weights = escape(block.name), format_weight_count(block.num_parameters)
    height = math.log(_count_positions(block)) / math.log(max_positions)  # halving the side is always the same step
    min_chars = next(length for length in (9, 6, 3, 0) if len(block.name) >= length)  # page.css rotates long names
    css_classes = f"hs-block hs-{escape(block.state)}" + " hs-first" * (0 < num_frozen == index)
    stage = "" if block.state == "head" else f' data-stage="{index}"'
    second_line = num_weights if block.state == "head" else "tokens" if len(block.shape) == 2 else ""
    tag, attributes = ("button", _button_attributes(strip, index, num_frozen)) if strip.press_mode else ("div", "")
    return (
        f'<{tag} class="{css_classes}"{stage}{attributes} title="{name}: {num_weights}">'
        f'<span class="hs-bar" style="--h:{height:.3f}"><span class="hs-name hs-{min_chars}">{name}</span></span>'
        f'<span class="hs-shape"><span>{_format_output_shape(block)}</span><span>{second_line}</span></span></{tag}>'
    )


def _button_attributes(strip: StageStrip, index: int, num_frozen: int) -> str:
    """Attributes of a block that is a button: its label, its state and what a click requests."""
    unfrozen = [block.name for block in strip.blocks if block.state != "head"][index:]
    label = f"Let {_format_few(unfrozen)} learn too" if unfrozen else "Let only the head learn"
    is_pressed = str(index == num_frozen).lower()
    disabled = ' disabled=""' if strip.press_mode == "waits" else ""
    label = f' aria-label="{escape(label)}"'
    return f' type="button" data-learning="{len(unfrozen)}" aria-pressed="{is_pressed}"{label}{disabled}'


def _render_groups(blocks: tuple[StageBlock, ...], num_frozen: int) -> str:
    """The brackets below the blocks, which say in words what the colours say."""
    unfrozen = blocks[num_frozen:]
    only_head = len(unfrozen) == 1 and unfrozen[0].state == "head"
    state, learn = ("head", "the head learns") if only_head else ("learning", _conjugate("learn", len(unfrozen)))
    return (
        '<div class="hs-groups">'
        f'<div class="hs-group hs-still"><span>{_conjugate("stand", num_frozen)} still</span></div>'
        f'<div class="hs-group hs-{state}"><span>{learn}</span></div></div>'
    )


def _describe_boundary(strip: StageStrip) -> str:
    if strip.cached_bytes_per_image is None:
        return "boundary"
    return f"boundary: {format_bytes(strip.cached_bytes_per_image)} an image kept"


def _count_positions(block: StageBlock) -> int:
    """Number of output positions: pixels of a feature map, tokens, or 1 for a vector."""
    sizes = {3: block.shape[1:], 2: block.shape[:1]}.get(len(block.shape), ())
    return max(1, math.prod(sizes))


def _format_output_shape(block: StageBlock) -> str:
    if block.state == "head":
        return format_count(block.shape[0], "class", "classes")
    if len(block.shape) == 3:
        channels, height, width = block.shape
        return f"{channels}·{height}²" if height == width else f"{channels}·{height}×{width}"
    if len(block.shape) == 2:
        return f"{block.shape[1]}·{block.shape[0]}"
    return "·".join(map(str, block.shape))


def _format_few(names: list[str]) -> str:
    """Up to three names one by one, more as a range."""
    return join_names(names) if len(names) <= 3 else _format_range(names)


def _format_range(names: list[str]) -> str:
    return join_names(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"


def _conjugate(verb: str, subjects: int) -> str:
    return f"{verb}s" if subjects == 1 else verb
