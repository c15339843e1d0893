"""The drop area: a folder or a zip from the browser to files whose class names are kept.

Whatever a browser says is checked here: where the bytes lie, and that they are plain files of Gradio's upload folder.
Knows nothing of images.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from headswap.errors import InputError

TEMPLATE = """
<div class="hs-drop">
  <p><b>Drop a folder or a zip here</b>, with one sub-folder for each class</p>
  <p>
    <button type="button" class="hs-choose-folder">Choose a folder</button>
    <button type="button" class="hs-choose-zip">Choose a zip</button>
  </p>
  <p class="hs-drop-says" role="status" aria-live="polite"></p>
  <input type="file" webkitdirectory multiple hidden aria-label="A folder of labelled images">
  <input type="file" accept=".zip,application/zip" hidden aria-label="A zip of labelled images">
</div>
"""


def picker() -> gr.HTML:
    """The drop area. Its ``submit`` event carries ``files``: a list of ``{"name": relative name, "path": upload}``."""
    return gr.HTML(
        html_template=TEMPLATE,
        js_on_load=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
        elem_id="picker",
        told=0,
    )


def received(files: object) -> list[tuple[str, Path]]:
    """Relative names and paths of what the browser sent.

    ``gr.HTML`` checks no path, so a page could name any file of the server: only regular files inside Gradio's own
    upload folder pass.

    Raises:
        InputError: if anything else stands in the list.
    """
    home = Path(get_upload_folder()).resolve()
    try:
        pairs = [(str(entry["name"]), Path(str(entry["path"]))) for entry in files]  # type: ignore[attr-defined]
        for _, path in pairs:
            inside = path.resolve(strict=True).is_relative_to(home)
            if not inside or not stat.S_ISREG(os.lstat(path).st_mode):
                raise InputError("A file that was named was not uploaded here. Choose the folder again.")
    except (TypeError, KeyError, OSError, ValueError, RuntimeError) as error:  # the last for links in a circle
        if isinstance(error, InputError):
            raise
        raise InputError("The list of files could not be read. Choose the folder again.") from error
    return pairs


def forget(pairs: list[tuple[str, Path]]) -> None:
    """Remove uploads once they have been read: whoever learns an upload's path can fetch it."""
    for _, path in pairs:
        path.unlink(missing_ok=True)
