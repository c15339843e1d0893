"""What the strip and its colours promise, read from the HTML and the CSS: no browser, no network."""

import ast
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from headswap.ui.views import gallery, stage_strip, theme
from headswap.ui.views.stage_strip import StageBlock, StageStrip, describe_strip, render_stage_strip

SHAPES = ((32, 112, 112), (16, 56, 56), (24, 28, 28), (40, 14, 14), (112, 7, 7))


def network(still, names="stem 1 2 3 last", kept=None):
    stages = [
        StageBlock(name, shape, 1000, "still" if index < still else "learning")
        for index, (name, shape) in enumerate(zip(names.split(), SHAPES, strict=False))
    ]
    return StageStrip((*stages, StageBlock("linear", (3,), 3_843, "head")), kept)


def tags(html):
    return [element.tag for element in ElementTree.fromstring(html).iter()]


def texts(html):
    return list(ElementTree.fromstring(html).itertext())


def heights(html):
    return [float(height) for height in re.findall(r"--h:([\d.]+)", html)]


@pytest.mark.parametrize(
    ("still", "sentence"),
    [
        (0, "Nothing stands still: stem to last and the head learn."),
        (1, "Stage stem stands still; 1 to last and the head learn."),
        (2, "Stages stem and 1 stand still; 2, 3, last and the head learn."),
        (3, "Stages stem to 2 stand still; 3, last and the head learn."),
        (4, "Stages stem to 3 stand still; last and the head learn."),
        (5, "Stages stem to last stand still; only the head learns."),
    ],
)
def test_the_sentence_is_grammatical_at_every_boundary(still, sentence):
    assert describe_strip(network(still)) == sentence


def test_a_head_alone_and_an_empty_strip_have_a_sentence_too():
    assert (
        describe_strip(StageStrip((StageBlock("linear", (3,), 9, "head"),)))
        == "Nothing stands still: only the head learns."
    )
    assert describe_strip(StageStrip(())) == "No network is chosen yet."
    assert ElementTree.fromstring(render_stage_strip(StageStrip(()))).get("role") == "img"


@pytest.mark.parametrize(
    ("kept", "amount"),
    [(351_232, "0.35 MB"), (1_605_632, "1.6 MB"), (5_120, "5.1 kB"), (64, "64 bytes"), (99_999, "100 kB")],
)
def test_what_is_kept_is_said_with_sensible_digits(kept, amount):
    assert f"boundary: {amount} an image kept" in render_stage_strip(network(3, kept=kept))
    assert describe_strip(network(3, kept=kept)).endswith(f" {amount} an image is kept at the boundary.")


def test_nothing_is_said_to_be_kept_before_anything_is_computed():
    assert ">boundary<" in render_stage_strip(network(3))
    assert "kept" not in render_stage_strip(network(3)) + describe_strip(network(3))


def test_a_block_is_the_taller_the_more_positions_its_output_has():
    drawn = heights(render_stage_strip(network(2)))
    assert len(drawn) == 6
    assert all(before > after for before, after in pairwise(drawn))
    assert drawn[0] == 1 and drawn[-1] == 0


def test_larger_images_never_grow_out_of_the_strip():
    blocks = (StageBlock("stem", (32, 300, 200), 1, "still"), StageBlock("body", (32, 150, 100), 1, "still"))
    tall, lower = heights(render_stage_strip(StageStrip(blocks)))
    assert 1 == tall > lower > 0


def test_a_row_of_tokens_is_measured_by_its_tokens_and_not_by_its_channels():
    tokens, vector = heights(
        render_stage_strip(StageStrip((StageBlock("1", (197, 768), 1, "still"), StageBlock("2", (768,), 1, "still"))))
    )
    assert tokens > vector == 0


@pytest.mark.parametrize("still", range(6))
def test_the_boundary_stands_after_the_last_block_that_stands_still(still):
    html = render_stage_strip(network(still))
    assert f"--n:6;--k:{still};" in html
    notched = [index for index, block in enumerate(html.split('<div class="hs-block ')[1:]) if "hs-first" in block[:40]]
    assert notched == ([still] if still else [])


def test_no_boundary_shows_when_nothing_stands_still():
    assert "hs-none" in render_stage_strip(network(0)) and "--notch:0px" in render_stage_strip(network(0))
    assert "hs-none" not in render_stage_strip(network(1))


def test_moving_the_boundary_adds_and_removes_no_element():
    """Gradio updates by position: only then do heights and colours glide instead of being drawn anew."""
    shapes = {tuple(tags(render_stage_strip(network(still, kept=still * 1000)))) for still in range(6)}
    assert len(shapes) == 1


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((112, 14, 14), "112·14²"),
        ((112, 14, 12), "112·14×12"),
        ((197, 768), "768·197</span><span>tokens"),
        ((1280,), "1280"),
    ],
)
def test_below_a_stage_stands_its_shape(shape, words):
    assert f"<span>{words}</span>" in render_stage_strip(StageStrip((StageBlock("1", shape, 1, "still"),)))


def test_below_the_head_stand_its_classes_and_weights():
    assert "<span>3 classes</span><span>3,843 weights</span>" in render_stage_strip(network(2))
    assert "<span>1 class</span><span>1 weight</span>" in render_stage_strip(
        StageStrip((StageBlock("linear", (1,), 1, "head"),))
    )


def test_a_tooltip_says_a_stage_s_weights():
    assert 'title="6: 1.2 million weights"' in render_stage_strip(
        StageStrip((StageBlock("6", (192, 7, 7), 1_234_567, "learning"),))
    )


def test_colour_is_never_the_only_sign():
    assert {"stand still", "learn"} <= set(texts(render_stage_strip(network(3))))
    assert {"stands still", "learn"} <= set(texts(render_stage_strip(network(1))))
    assert {"stand still", "the head learns"} <= set(texts(render_stage_strip(network(5))))
    assert "repeating-linear-gradient" in theme.read_css()


def test_a_stranger_s_names_are_text_and_never_markup():
    name = "<b>&\"'"
    blocks = (StageBlock(name, (1, 2, 2), 1, "still"), StageBlock("${x}", (3,), 1, "head"))
    html = render_stage_strip(StageStrip(blocks))
    assert "b" not in tags(html)
    assert {name, "${x}"} <= set(texts(html))
    values = [value for element in ElementTree.fromstring(html).iter() for value in element.attrib.values()]
    assert f"{name}: 1 weight" in values
    assert f"Stage {name} stands still; only the head learns." in values


def test_who_cannot_see_the_picture_hears_its_sentence():
    picture = ElementTree.fromstring(render_stage_strip(network(3)))
    assert picture.get("role") == "img" and picture.get("aria-label") == describe_strip(network(3))


def test_only_stages_are_numbered():
    assert re.findall(r'data-stage="(\d)"', render_stage_strip(network(3))) == list("01234")


def pressable(still, pressing="asks"):
    return list(ElementTree.fromstring(render_stage_strip(replace(network(still), press_mode=pressing))).iter("button"))


def test_each_block_asks_for_learning_from_there_on_where_it_can_be_pressed():
    blocks = pressable(3)
    assert [block.get("data-learning") for block in blocks] == list("543210")
    assert [block.get("aria-label") for block in blocks] == [
        "Let stem to last learn too",
        "Let 1 to last learn too",
        "Let 2, 3 and last learn too",
        "Let 3 and last learn too",
        "Let last learn too",
        "Let only the head learn",
    ]
    assert [block.get("aria-pressed") for block in blocks].index("true") == 3
    assert not [block for block in blocks if block.get("disabled") is not None]


def test_who_cannot_see_the_picture_finds_its_buttons():
    picture = ElementTree.fromstring(render_stage_strip(replace(network(3), press_mode="asks")))
    assert picture.get("role") == "group" and picture.get("aria-label") == describe_strip(network(3))


def test_while_a_training_runs_the_same_buttons_wait():
    assert all(block.get("disabled") is not None for block in pressable(2, "waits"))
    shapes = {
        tuple(tags(render_stage_strip(replace(network(still), press_mode=how))))
        for still in range(6)
        for how in ("asks", "waits")
    }
    assert len(shapes) == 1
    assert not pressable(2, "")


def test_every_class_that_is_drawn_has_its_style():
    drawn = " ".join(gallery.sample_stage_strips().values())
    known = set(re.findall(r"\.(hs-[a-z0-9-]+)", theme.read_css()))
    assert {name for names in re.findall(r'class="([^"]*)"', drawn) for name in names.split()} <= known


def colours(selector):
    """The theme's values after a selector: {"page": (r, g, b), ...}."""
    block = re.search(rf"^{re.escape(selector)} {{(.*?)}}", theme.read_css(), re.S | re.M)[1]
    return {name: tuple(bytes.fromhex(value)) for name, value in re.findall(r"--hs-([a-z-]+): #([0-9a-f]{6})", block)}


def contrast(one, other):
    """WCAG 2.2's ratio of two colours, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""

    def luminance(colour):
        linear = [(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in (v / 255 for v in colour)]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


GROUND = ("page", "card")
BANDS = ("still-band", "learning-band")
READ_ON = {
    "ink": GROUND,
    "soft": GROUND,
    "training": (*GROUND, *BANDS),
    "still-ink": (*GROUND, "still", "still-hatch"),
    "learning-ink": (*GROUND, "learning"),
    "head-ink": (*GROUND, *BANDS, "head"),
    "wrong-ink": (*GROUND, "wrong"),
}
SEEN_ON = {
    "still-edge": GROUND,
    "learning-edge": (*GROUND, *BANDS),
    "head-edge": (*GROUND, *BANDS),
    "wrong-edge": GROUND,
}


def test_black_on_white_has_the_contrast_that_everybody_knows():
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)


@pytest.mark.parametrize("mode", [":root", ".dark"])
@pytest.mark.parametrize(("pairs", "least"), [(READ_ON, 4.5), (SEEN_ON, 3.0)], ids=["text", "lines"])
def test_colours_can_be_read_in_light_and_in_dark(mode, pairs, least):
    value = colours(mode)
    faint = {
        (front, back): round(contrast(value[front], value[back]), 2)
        for front, backs in pairs.items()
        for back in backs
        if contrast(value[front], value[back]) < least
    }
    assert not faint


def test_violet_is_not_dim_on_the_dark_card():
    dark = colours(".dark")
    assert contrast(dark["head-edge"], dark["card"]) > 6


def test_light_and_dark_name_the_same_colours_and_every_colour_used_is_named():
    assert colours(":root").keys() == colours(".dark").keys()
    assert set(re.findall(r"var\(--hs-([a-z-]+)\)", theme.read_css())) <= colours(":root").keys()


def test_nothing_comes_from_another_host():
    assert not re.search(r"https?:|//|@import|url\((?!\"data:)", theme.read_css() + render_stage_strip(network(3)))


@pytest.mark.parametrize("room", ["theme", "stage_strip", "line_chart", "confusion_matrix"])
def test_the_drawings_know_neither_gradio_nor_torch(room):
    tree = ast.parse(Path(stage_strip.__file__).with_name(f"{room}.py").read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {name.split(".")[0] for name in names} & {"gradio", "torch", "torchvision", "timm"}
    assert {name for name in names if name.startswith("headswap")} <= {
        "headswap.ui.static.assets",
        "headswap.common.text",
    }
