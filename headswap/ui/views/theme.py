"""Where the look of the page lies, and a gallery for whoever works on a drawing. Knows no Gradio and no drawing."""

from headswap.ui.static.assets import read_static

GALLERY_CSS = """
body { margin: 0; font-family: system-ui, sans-serif }
section { padding: 24px 0; background: var(--hs-page) }
section > div { margin: auto }
h2 { margin: 40px 0 8px; color: var(--hs-soft); font-size: 12px; font-weight: 400 }
"""


def read_css() -> str:
    """The style sheet. Hand it to Gradio inside ``head="<style>...</style>"``: its ``css=`` drops ``@container`` rules.

    Components that show a drawing want ``apply_default_css=False``, or Gradio recolours their text.
    """
    return read_static("page.css")


def render_gallery(drawings: dict[str, str]) -> str:
    """A page that shows each drawing light and dark, wide and on a phone, for whoever works on one."""
    shown = "".join(f"<h2>{title}</h2>{drawing}" for title, drawing in drawings.items())
    rooms = "".join(
        f'<section class="{mode}"><div style="width:{width}px">{shown}</div></section>'
        for width in (1056, 320)
        for mode in ("light", "dark")
    )
    head = f'<meta charset="utf-8"><title>headswap: drawings</title><style>{read_css()}{GALLERY_CSS}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{rooms}</body></html>'
