"""HTML components with scripts that turn what is done in them into ``submit`` events."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from headswap.ui.static.assets import read_scripts


def build_scripted_html(scripts: str | Sequence[str], elem_id: str, value: str = "") -> gr.HTML:
    """Build an HTML component with a script.

    Args:
        scripts: The name of a file in ``static``, such as "asking.js"; or several, each of which uses those before it.
        elem_id: The element's ``id``.
        value: The HTML that it shows at first.
    """
    joined = read_scripts(*([scripts] if isinstance(scripts, str) else scripts))
    return gr.HTML(value, js_on_load=joined, elem_id=elem_id, apply_default_css=False)
