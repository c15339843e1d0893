"""Where images come in: a folder, an archive, loose images or the camera become uploads whose names are kept.

Whatever a browser says is checked here: where the bytes lie, and that they are plain files of Gradio's upload folder.
Knows nothing of images.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from headswap.common.errors import InputError
from headswap.common.limits import get_limits
from headswap.data.sources import IMAGE_EXTENSIONS
from headswap.ui.static.assets import read_static

SCRIPTS = ("shrink", "sending", "camera", "picker")  # one program in the end: each uses what stands before it
MAX_NAME_LENGTH = 4096  # characters, of all folders together
MAX_BURST_LENGTH = 64

PICKER_TEMPLATE = """
<div class="hs-picker">
  <div class="hs-drop">
    <p class="hs-way">Drop a folder, a zip or images here</p>
    <p>In a folder or a zip, each sub-folder is a class, or a labels.csv says what each image shows.</p>
    <div class="hs-buttons">
      <button type="button" class="hs-choose-folder">Choose a folder</button>
      <button type="button" class="hs-choose-files">Choose files</button>
    </div>
    <div class="hs-state">
      <progress aria-label="How much is sent" hidden></progress>
      <p class="hs-drop-says" role="status" aria-live="polite"></p>
      <button type="button" class="hs-stop" hidden>Stop</button>
    </div>
  </div>
  <label class="hs-check" hidden>
    <input type="checkbox" class="hs-add"><span>Add to the images that are loaded</span>
  </label>
  <label class="hs-check">
    <input type="checkbox" class="hs-shrink" checked>
    <span>Shrink photographs before sending
      <small>A photograph of 4 MB then travels as some 60 kB.</small></span>
  </label>
  <div class="hs-one-class">
    <p class="hs-way">Or one class at a time</p>
    <label>Name of a class
      <input type="text" class="hs-class-name" maxlength="300" autocomplete="off" spellcheck="false"></label>
    <div class="hs-buttons">
      <button type="button" class="hs-add-images">Add images</button>
      <button type="button" class="hs-open-camera" aria-expanded="false">Camera</button>
    </div>
    <p>Ctrl+V or Cmd+V pastes images into this class.
      <span class="hs-no-film" hidden>Filming takes https and a browser that allows it; here, Camera takes
        single photographs where the device offers it.</span></p>
    <div class="hs-camera" role="group" aria-label="Camera" hidden>
      <p>Take two bursts or more of each class, from different sides: some are learned from, another checks.</p>
      <video autoplay playsinline muted aria-label="What the camera sees"></video>
      <div class="hs-buttons">
        <button type="button" class="hs-shutter">Hold to take pictures</button>
        <button type="button" class="hs-close-camera">Close camera</button>
      </div>
      <p class="hs-counted"></p>
    </div>
  </div>
  <input type="file" class="hs-folder-input" webkitdirectory multiple hidden aria-label="A folder of labelled images">
  <input type="file" class="hs-files-input" multiple hidden aria-label="Images, an archive or a table"
    accept=".zip,.tar,.gz,.tgz,.csv,.tsv,image/*,ENDINGS">
  <input type="file" class="hs-images-input" multiple hidden aria-label="Images of this class"
    accept="image/*,ENDINGS">
  <input type="file" class="hs-capture-input" hidden aria-label="A photograph of this class"
    accept="image/*" capture="environment">
</div>
""".replace("ENDINGS", ",".join(sorted(IMAGE_EXTENSIONS)))


@dataclass(frozen=True)
class Upload:
    """A file that a browser sent: the relative name it had there, where its bytes lie, and its burst ("" for none)."""

    name: str
    path: Path
    burst: str


def build_picker() -> gr.HTML:
    """The drop area.

    Its ``submit`` event carries ``files``, a list for ``received``; ``label``, the class of all of them, or "" where
    their names tell; and ``add``, whether they join what is loaded. Its ``stop`` asks for the reading to end.
    Set ``says`` to tell of the reading, ``told`` to another number when it is over, ``loaded`` once there are images.
    """
    return gr.HTML(
        html_template=PICKER_TEMPLATE,  # names no property: it would be drawn anew, and lose what was typed
        js_on_load="\n".join(read_static(f"{name}.js") for name in SCRIPTS),
        apply_default_css=False,
        elem_id="picker",
        most=get_limits().images,
        loaded=False,
        says="",
        told=0,
    )


def parse_uploads(files: object) -> list[Upload]:
    """What the browser sent.

    ``gr.HTML`` checks no path, so a page could name any file of the server: only regular files inside Gradio's own
    upload folder pass.

    Raises:
        InputError: if anything else stands in the list.
    """
    home, most = Path(get_upload_folder()).resolve(), get_limits().images
    try:
        if len(files) > most:  # type: ignore[arg-type]
            raise InputError(f"More than {most:,} files are not read at once. Take fewer.")
        return [_parse_upload(entry, home) for entry in files]  # type: ignore[attr-defined]
    except InputError:
        raise
    except (TypeError, KeyError, AttributeError, OSError, ValueError, RuntimeError) as error:  # or links in a circle
        raise InputError("The list of files could not be read. Choose the folder again.") from error


def _parse_upload(entry: dict[str, object], upload_folder: Path) -> Upload:
    name, path, burst = entry["name"], entry["path"], entry.get("burst", "")
    for text, longest in ((name, MAX_NAME_LENGTH), (path, MAX_NAME_LENGTH), (burst, MAX_BURST_LENGTH)):
        if not isinstance(text, str) or len(text) > longest:
            raise ValueError("no text, or an endless one")
    place = Path(path)
    if not place.resolve(strict=True).is_relative_to(upload_folder) or not stat.S_ISREG(os.lstat(place).st_mode):
        raise InputError("A file that was named was not uploaded here. Choose the folder again.")
    return Upload(name, place, burst)


def delete_uploads(uploads: Iterable[Upload]) -> None:
    """Remove uploads once they have been read: whoever learns an upload's path can fetch it."""
    for upload in uploads:
        upload.path.unlink(missing_ok=True)
