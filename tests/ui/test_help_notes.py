"""Explain: every control has its note, and every note its control."""

import gradio as gr
import pytest

from headswap.ui.app import page
from headswap.ui.panels import help_notes
from headswap.ui.sessions.registry import SessionRegistry

WANT_ONE = (gr.Slider, gr.Radio, gr.Number, gr.Checkbox)
PLAIN = {"kind"}  # what says all of itself


@pytest.fixture(scope="module")
def blocks(built):
    return built(lambda: page.build_page(SessionRegistry()))


def ids(blocks):
    return [block.elem_id for block in blocks.blocks.values() if getattr(block, "elem_id", None)]


def test_every_note_stands_once_and_beside_what_is_there(blocks):
    standing = ids(blocks)
    for about in help_notes.NOTES:
        assert standing.count(f"note-{about}") == 1, about
        assert standing.count(about) == 1, about


def test_every_control_that_sets_something_has_its_note(blocks):
    controls = [block for block in blocks.blocks.values() if isinstance(block, WANT_ONE)]
    assert len(controls) > 10
    without = [each.label for each in controls if each.elem_id not in help_notes.NOTES and each.elem_id not in PLAIN]
    assert not without


def test_a_note_is_short_and_whole_sentences():
    for about, words in help_notes.NOTES.items():
        assert words.endswith((".", "?")) and len(words) < 460, about
