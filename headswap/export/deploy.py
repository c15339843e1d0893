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

from headswap.common.atomic import atomic_write_bytes
from headswap.common.deprecation import renamed_attributes
from headswap.common.errors import InputError
from headswap.common.text import sanitize
from headswap.data.dataset import LabelledImages
from headswap.export.model_card import build_model_card
from headswap.export.onnx import build_export_metadata, export_onnx
from headswap.export.parity import ParityReport, make_golden_samples
from headswap.networks.classifier import Classifier

TEMPLATES_DIR = Path(__file__).with_name("templates")
KIT_REQUIREMENTS = ("numpy", "onnxruntime", "pillow")
SPACE_PYTHON_VERSION = "3.12"  # on a Space

ONNX_KIT_USAGE = """`model.onnx` takes uint8 `[N, {size}, {size}, 3]` and gives probabilities `[N, {classes}]`; how a picture is
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


@renamed_attributes(proof="parity", write="write_to", zipped="to_zip")
@dataclass(frozen=True)
class DeployKit:
    """A folder's files by their paths in it, and what the comparison of its model said."""

    files: Mapping[str, bytes]
    parity: ParityReport

    def write_to(self, folder: str | os.PathLike[str]) -> None:
        """Write the files, each whole or not at all.

        Raises:
            InputError: if one cannot be written.
        """
        for name, content in self.files.items():
            path = Path(folder, name)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                place = sanitize(str(path.parent))
                raise InputError(f"The folder {place} cannot be made: {error.strerror or error}.") from error
            atomic_write_bytes(path, content)

    def to_zip(self) -> bytes:
        """The same as one zip."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                archive.writestr(name, content)
        return stream.getvalue()


def onnx_kit(model: Classifier, title: str, images: LabelledImages | None = None) -> DeployKit:
    """``model.onnx`` with golden images, a card, and code that runs and checks it in Python and in a browser.

    Args:
        model: which has learned.
        title: what to call it.
        images: some of these are the golden images; drawn ones otherwise.

    Raises:
        InputError: if the network cannot be expressed in ONNX.
    """
    usage = ONNX_KIT_USAGE.format(size=model.preprocess.size, classes=len(model.classes))
    files, proof = _build_onnx_files(model, title, usage, images)
    return DeployKit(files | {"index.html": _read_template("index.html")}, proof)


def space_kit(model: Classifier, title: str, images: LabelledImages | None = None) -> DeployKit:
    """A folder ready to push to a Space with the Gradio SDK: a page that classifies images, without PyTorch.

    Args and what is raised are those of ``onnx_kit``.
    """
    files, proof = _build_onnx_files(model, title, SPACE_USAGE, images)
    readme = files["README.md"].decode().split("---\n", 2)[2]  # without the front matter of a model
    files |= {
        "app.py": _read_template("app.py.txt"),
        "README.md": f"---\n{_space_front_matter(title)}\n---\n{readme}".encode(),
    }
    return DeployKit(files, proof)


def _build_onnx_files(
    model: Classifier, title: str, usage: str, images: LabelledImages | None
) -> tuple[dict[str, bytes], ParityReport]:
    known = make_golden_samples(model, images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        proof = export_onnx(model, path, known)
        files = {"model.onnx": path.read_bytes()}
    files |= build_model_card(model, title, usage)
    files |= {f"golden/{name}": content for name, content in known.to_files().items()}
    files["model.json"] = json.dumps(build_export_metadata(model), indent=1, ensure_ascii=False).encode()
    files["predict.py"] = _read_template("predict.py")
    files["requirements.txt"] = "".join(f"{name}>={_minor_version(name)}\n" for name in KIT_REQUIREMENTS).encode()
    return files, proof


def _space_front_matter(title: str) -> str:
    from huggingface_hub import SpaceCardData

    return SpaceCardData(
        title=sanitize(title),
        sdk="gradio",
        sdk_version=version("gradio"),
        python_version=SPACE_PYTHON_VERSION,
        app_file="app.py",
        license="other",
        tags=["image-classification", "headswap"],
    ).to_yaml()


def _minor_version(name: str) -> str:
    """The version that it was proved with, without its last number."""
    return ".".join(version(name).split(".")[:2])


def _read_template(name: str) -> bytes:
    return (TEMPLATES_DIR / name).read_bytes()
