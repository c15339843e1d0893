"""Builds folders for deployment: ONNX model with inference code, and a Hugging Face Space with a Gradio app.

The code in them consists of constant files in ``templates``, which read classes and sizes from the model's metadata,
so no text of the user is ever written into code. Knows nothing of training.
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
from headswap.common.extras import needs_extra
from headswap.common.text import sanitize
from headswap.data.dataset import LabelledImages
from headswap.export.model_card import build_model_card
from headswap.export.onnx import export_onnx
from headswap.export.parity import ParityReport, make_golden_samples
from headswap.export.torch_program import build_export_metadata
from headswap.networks.classifier import Classifier

TEMPLATES_DIR = Path(__file__).with_name("templates")
KIT_REQUIREMENTS = ("numpy", "onnxruntime", "pillow")
SPACE_PYTHON_VERSION = "3.12"

ONNX_KIT_USAGE = """`model.onnx` takes uint8 `[N, {size}, {size}, 3]` and gives probabilities `[N, {classes}]`; how a \
picture is
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
    """The files of a folder for deployment, and the comparison of its model.

    Attributes:
        files: contents by their paths in the folder.
        parity: the comparison of the exported model with the model.
    """

    files: Mapping[str, bytes]
    parity: ParityReport

    def write_to(self, folder: str | os.PathLike[str]) -> None:
        """Write the files into a folder, which is created if necessary; each file is written completely or not at all.

        Raises:
            InputError: if a file cannot be written.
        """
        for name, content in self.files.items():
            path = Path(folder, name)
            make_folder(path.parent)
            atomic_write_bytes(path, content)

    def to_zip(self) -> bytes:
        """The files as a zip."""
        return _to_zip(self.files)


def zip_folder(folder: Path) -> bytes:
    """All files of a folder as a zip, by their paths in it."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
    return _to_zip(files)


def make_folder(folder: Path) -> Path:
    """Create a folder and its parents unless they exist.

    Raises:
        InputError: if it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        shown = sanitize(str(folder))
        raise InputError(f"The folder {shown} cannot be made: {error.strerror or error}.") from error
    return folder


def onnx_kit(model: Classifier, title: str, images: LabelledImages | None = None) -> DeployKit:
    """Build a folder with ``model.onnx``, golden samples, a model card, and inference code for Python and browsers.

    Args:
        model: a trained model.
        title: the heading of the model card.
        images: some of these become golden samples. By default they are synthetic.

    Raises:
        InputError: if the network cannot be expressed in ONNX, or the extra "onnx" is missing.
    """
    usage = ONNX_KIT_USAGE.format(size=model.preprocess.size, classes=len(model.classes))
    files, parity = _build_onnx_files(model, title, usage, images)
    return DeployKit(files | {"index.html": _read_template("index.html")}, parity)


def space_kit(model: Classifier, title: str, images: LabelledImages | None = None) -> DeployKit:
    """Build a folder for a Hugging Face Space: a Gradio app that classifies images with ONNX Runtime.

    Args:
        model: a trained model.
        title: the title of the Space.
        images: some of these become golden samples. By default they are synthetic.

    Raises:
        InputError: if the network cannot be expressed in ONNX, or one of the extras "onnx" and "page" is missing.
    """
    front_matter = _space_front_matter(title)
    files, parity = _build_onnx_files(model, title, SPACE_USAGE, images)
    body = files["README.md"].decode().split("---\n", 2)[2]  # after the front matter of a model
    files |= {
        "app.py": _read_template("app.py.txt"),
        "README.md": f"---\n{front_matter}\n---\n{body}".encode(),
    }
    return DeployKit(files, parity)


def _build_onnx_files(
    model: Classifier, title: str, usage: str, images: LabelledImages | None
) -> tuple[dict[str, bytes], ParityReport]:
    golden = make_golden_samples(model, images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        parity = export_onnx(model, path, golden)
        files = {"model.onnx": path.read_bytes()}
    files |= build_model_card(model, title, usage)
    files |= {f"golden/{name}": content for name, content in golden.to_files().items()}
    files["model.json"] = json.dumps(build_export_metadata(model), indent=1, ensure_ascii=False).encode()
    files["predict.py"] = _read_template("predict.py")
    files["requirements.txt"] = "".join(f"{name}>={_minor_version(name)}\n" for name in KIT_REQUIREMENTS).encode()
    return files, parity


def _to_zip(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _space_front_matter(title: str) -> str:
    from huggingface_hub import SpaceCardData

    with needs_extra("page", "A Space"):  # its settings name the Gradio that its page was tried with
        gradio_version = version("gradio")
    return SpaceCardData(
        title=sanitize(title),
        sdk="gradio",
        sdk_version=gradio_version,
        python_version=SPACE_PYTHON_VERSION,
        app_file="app.py",
        license="other",
        tags=["image-classification", "headswap"],
    ).to_yaml()


def _minor_version(name: str) -> str:
    """The installed version of a package, with which the kit was tested, as major and minor number."""
    return ".".join(version(name).split(".")[:2])


def _read_template(name: str) -> bytes:
    return (TEMPLATES_DIR / name).read_bytes()
