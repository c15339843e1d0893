"""Folders to take along: a model as ONNX with the code that runs and checks it, and a page of its own for a Space.

The code in them is plain files of ``headswap/kit``: it reads classes and sizes from the model's own words, so nothing
that somebody has typed is ever written into code. Knows nothing of how a model is taught.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from headswap.common.atomic import write
from headswap.common.errors import InputError
from headswap.common.text import harmless
from headswap.data.dataset import LabelledImages
from headswap.export.model_card import card
from headswap.export.onnx import about, export_onnx
from headswap.export.parity import Proof, golden
from headswap.networks.classifier import Classifier

KIT = Path(__file__).with_name("templates")
NEEDED = ("numpy", "onnxruntime", "pillow")
PYTHON = "3.12"  # on a Space

USAGE = """`model.onnx` takes uint8 `[N, {size}, {size}, 3]` and gives probabilities `[N, {classes}]`; how a picture is
brought to {size} x {size} is in `predict.py`, and as data in `model.json` and in the file's own metadata.

```bash
pip install -r requirements.txt
python predict.py              # checks itself against golden/
python predict.py photo.jpg
python -m http.server          # and open http://localhost:8000: the same in a browser
```"""

SPACE_USAGE = """Push this folder to a [Space](https://huggingface.co/new-space) with the Gradio SDK, or run it here:

```bash
pip install gradio -r requirements.txt
python app.py
```"""


@dataclass(frozen=True)
class Kit:
    """A folder's files by their paths in it, and what the comparison of its model said."""

    files: Mapping[str, bytes]
    proof: Proof

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write the files, each whole or not at all.

        Raises:
            InputError: if one cannot be written.
        """
        for name, content in self.files.items():
            path = Path(folder, name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                place = harmless(str(path.parent))
                raise InputError(f"The folder {place} cannot be made: {error.strerror or error}.") from error
            write(path, content)

    def zipped(self) -> bytes:
        """The same as one zip."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                archive.writestr(name, content)
        return stream.getvalue()


def onnx_kit(model: Classifier, title: str, images: LabelledImages | None = None) -> Kit:
    """``model.onnx`` with golden images, a card, and code that runs and checks it in Python and in a browser.

    Args:
        model: which has learned.
        title: what to call it.
        images: some of these are the golden images; drawn ones otherwise.

    Raises:
        InputError: if the network cannot be expressed in ONNX.
    """
    usage = USAGE.format(size=model.preprocess.size, classes=len(model.classes))
    files, proof = _with_onnx(model, title, usage, images)
    return Kit(files | {"index.html": _plain("index.html")}, proof)


def space(model: Classifier, title: str, images: LabelledImages | None = None) -> Kit:
    """A folder ready to push to a Space with the Gradio SDK: a page that classifies images, without PyTorch.

    Args and what is raised are those of ``onnx_kit``.
    """
    files, proof = _with_onnx(model, title, SPACE_USAGE, images)
    readme = files["README.md"].decode().split("---\n", 2)[2]  # without the front matter of a model
    files |= {"app.py": _plain("app.py.txt"), "README.md": f"---\n{_space_matter(title)}\n---\n{readme}".encode()}
    return Kit(files, proof)


def _with_onnx(
    model: Classifier, title: str, usage: str, images: LabelledImages | None
) -> tuple[dict[str, bytes], Proof]:
    known = golden(model, images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        proof = export_onnx(model, path, known)
        files = {"model.onnx": path.read_bytes()}
    files |= card(model, title, usage)
    files |= {f"golden/{name}": content for name, content in known.files().items()}
    files["model.json"] = json.dumps(about(model), indent=1, ensure_ascii=False).encode()
    files["predict.py"] = _plain("predict.py")
    files["requirements.txt"] = "".join(f"{name}>={_series(name)}\n" for name in NEEDED).encode()
    return files, proof


def _space_matter(title: str) -> str:
    from huggingface_hub import SpaceCardData

    return SpaceCardData(
        title=harmless(title),
        sdk="gradio",
        sdk_version=version("gradio"),
        python_version=PYTHON,
        app_file="app.py",
        license="other",
        tags=["image-classification", "headswap"],
    ).to_yaml()


def _series(name: str) -> str:
    """The version that it was proved with, without its last number."""
    return ".".join(version(name).split(".")[:2])


def _plain(name: str) -> bytes:
    return (KIT / name).read_bytes()
