"""The pieces of HTML that several views share."""

import base64
import re

from headswap.ui.views.html import (
    render_bar,
    render_button,
    render_csv_link,
    render_hint,
    render_image,
    render_remainder,
    render_status,
)

EVIL = '<b onload="x">&'


def test_every_text_is_escaped():
    drawn = [
        render_hint(EVIL),
        render_status(EVIL),
        render_remainder(3, 1, EVIL),
        render_button(EVIL, EVIL, do=EVIL),
        render_bar(EVIL, 0.5),
        render_image(EVIL, "data:,"),
    ]
    assert not any("<b o" in html or 'onload="x' in html for html in drawn)


def test_a_remainder_and_a_hint_of_nothing_are_nothing():
    assert render_remainder(1234, 0) == "<p class='hs-rest'>and 1,234 more</p>"
    assert render_remainder(3, 3) == render_remainder(0, 3) == render_hint("") == ""


def test_a_button_carries_what_it_asks_for_and_says_whose_it_is():
    html = render_button("Remove", "1.jpg", do="remove", images="1", small=True)
    assert 'aria-label="Remove: 1.jpg"' in html and 'data-do="remove" data-images="1"' in html and ">×<" in html
    assert 'aria-expanded="false"' in render_button("Show all", expanded=False) and "aria-" not in render_button("Undo")


def test_a_bar_is_as_long_as_its_value_and_silent_where_a_sentence_says_the_same():
    html = render_bar("rose", 0.25, (0.125, 0.5), muted=True, decorative=True)
    assert "width:25.0%" in html and "left:12.5%;width:37.5%" in html and ">25 %<" in html
    assert 'class="hs-bar-row hs-blind" aria-hidden="true"' in html
    assert "aria-hidden" not in render_bar("rose", 0.25) and "<i" not in render_bar("rose", 0.25)


def test_a_table_to_download_says_that_it_is_utf_8():
    html = render_csv_link("out.csv", ("file", "why"), [("ä.jpg", "torn")])
    content = base64.b64decode(re.search(r'download="out.csv" href="data:text/csv;base64,([^"]*)"', html)[1])
    assert content.decode("utf-8-sig") == "file,why\r\nä.jpg,torn\r\n" and content[:3] == b"\xef\xbb\xbf"
