"""HTML components with a script that turns clicks on their buttons into ``submit`` events."""

from __future__ import annotations

import gradio as gr

from headswap.ui.static.assets import read_static


def build_scripted_html(script: str, elem_id: str, value: str = "") -> gr.HTML:
    """Build an HTML component with a script.

    Args:
        script: The name of a file in ``static``, such as "asking.js".
        elem_id: The element's ``id``.
        value: The HTML that it shows at first.
    """
    return gr.HTML(value, js_on_load=read_static(script), elem_id=elem_id, apply_default_css=False)
