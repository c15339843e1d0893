"""The component through which images come in."""

import re

from headswap.ui.panels.picker import PICKER_TEMPLATE, build_picker


def test_what_the_server_tells_never_draws_the_picker_anew(built):
    drop = built(build_picker)
    assert drop.props == {"max_files": 20_000, "loaded": False, "progress": "", "finished": 0}
    assert "${" not in PICKER_TEMPLATE and "{{" not in PICKER_TEMPLATE
    assert "`" not in PICKER_TEMPLATE and "\\" not in PICKER_TEMPLATE  # they mean something in a template


def test_everything_that_can_be_pressed_or_chosen_has_a_name():
    for tag in re.findall(r"<(?:input type=\"file\"|progress|video)[^>]*>", PICKER_TEMPLATE):
        assert "aria-label=" in tag
    for field in re.findall(r"<input type=\"(?:text|checkbox)\"[^>]*>", PICKER_TEMPLATE):
        assert any(field in label and re.search(r"\w{4}", re.sub("<.*?>", "", label)) for label in labels())


def labels():
    return re.findall(r"<label.*?</label>", PICKER_TEMPLATE, re.DOTALL)
