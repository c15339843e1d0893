"""Reads the page's style sheet and renders a gallery of drawings for development. Knows no drawing."""

from headswap.ui.static.assets import read_static

GALLERY_CSS = """
body { margin: 0; font-family: system-ui, sans-serif }
section { padding: 24px 0; background: var(--hs-page) }
section > div { margin: auto }
h2 { margin: 40px 0 8px; color: var(--hs-soft); font-size: 12px; font-weight: 400 }
"""


def read_css() -> str:
    """The page's style sheet.

    Pass it to Gradio as ``head="<style>...</style>"``, because its ``css`` argument drops ``@container`` rules, and set
    ``apply_default_css=False`` on components that show a drawing, because Gradio would recolour their text.
    """
    return read_static("page.css")


def render_gallery(drawings: dict[str, str]) -> str:
    """An HTML document with each drawing, by title, in light and dark mode, as wide as a desktop and a phone."""
    content = "".join(f"<h2>{title}</h2>{drawing}" for title, drawing in drawings.items())
    sections = "".join(
        f'<section class="{mode}"><div style="width:{width}px">{content}</div></section>'
        for width in (1056, 320)
        for mode in ("light", "dark")
    )
    head = f'<meta charset="utf-8"><title>headswap: drawings</title><style>{read_css()}{GALLERY_CSS}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{sections}</body></html>'
