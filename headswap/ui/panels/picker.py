"""Upload component for folders, archives, loose images and camera bursts. Knows no session.

Its JavaScript uploads each file alone, so that relative names are kept; ``browser_events`` parses what it sends.
"""

from __future__ import annotations

import gradio as gr

from headswap.common.limits import get_limits
from headswap.data.sources import IMAGE_EXTENSIONS
from headswap.ui.static.assets import read_scripts

SCRIPTS = ("uploading.js", "shrink.js", "sending.js", "camera.js", "picker.js")  # each uses names of those before it

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
      <p class="hs-drop-status" role="status" aria-live="polite"></p>
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


def build_picker() -> gr.HTML:
    """Build the drop area.

    Its ``submit`` event carries what ``browser_events.parse_images_upload`` parses; its ``stop`` event asks for the
    reading to end. Update ``progress`` to report the reading, ``finished`` to a new number when it is over, and
    ``loaded`` once there are images.
    """
    return gr.HTML(
        html_template=PICKER_TEMPLATE,  # names no property: an update would render it again and lose what was typed
        js_on_load=read_scripts(*SCRIPTS),
        apply_default_css=False,
        elem_id="picker",
        max_files=get_limits().images,
        loaded=False,
        progress="",
        finished=0,
    )
