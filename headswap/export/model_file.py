"""Saves a Classifier as a .headswap file and loads it: a zip of JSON, safetensors, a model card and golden samples.

Loading executes no code from the file: the description names a backbone and a head of the library's own tables, the
network is built from them without weights, and weights are loaded only if every name, shape and dtype is that of the
network and every number is finite. Nothing in the file is compressed, so reading it takes no more memory than its
size. When a file opens, its checksums and golden samples are compared, and differences outside the weights are
reported.

Knows nothing of training and of other formats.
"""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torchvision.transforms.v2.functional import center_crop

from headswap.common.atomic import atomic_write
from headswap.common.bounded_file import BoundedFile
from headswap.common.errors import InputError
from headswap.common.text import sanitize
from headswap.data.dataset import LabelledImages
from headswap.data.decoding import encode_jpeg, read_pixels
from headswap.data.picture_inputs import reject_url
from headswap.export.integrity import (
    GOLDEN_PREFIX,
    DamageWarning,
    check_integrity,
    compute_checksums,
    is_uncompressed,
    make_checksum_entry,
)
from headswap.export.model_card import build_model_card
from headswap.export.model_weights import (
    check_safetensors_header,
    dump_weights,
    get_tensor_specs,
    is_finite,
    load_weights,
    parse_weights,
)
from headswap.export.parity import GoldenSamples, ParityError, ParityReport, check_parity, make_golden_samples
from headswap.export.schema import (
    MAX_DESCRIPTION_BYTES,
    InvalidModelFile,
    ModelDescription,
    build_from_description,
    build_on_meta_device,
    describe_model,
    dump_description,
    is_utf8_encodable,
    parse_description,
)
from headswap.networks.catalogue import find_backbone
from headswap.networks.classifier import Classifier
from headswap.networks.head_registry import get_head_config

MODEL_FILE_SUFFIX = ".headswap"
DESCRIPTION_ENTRY, WEIGHTS_ENTRY = "headswap.json", "weights.safetensors"
THUMBNAIL_SIZE, MAX_THUMBNAILS_PER_CLASS = 128, 20  # pixels of a side; per class

MODEL_FILE_USAGE = """```bash
pip install git+https://github.com/headswap/headswap
```

```python
import headswap

model = headswap.load({name!r})
print(model.predict("new.jpg"))
```

`golden/` holds {count} small images with the probabilities that this model gives to them: `1.png` is what the
network sees, to the pixel, `1.jpg` the original; the last original is a PNG of 16 bits."""


def save(model: Classifier, path: str | os.PathLike[str], images: LabelledImages | None = None) -> ParityReport:
    """Save a model as one ``.headswap`` file, which is loaded again and compared before it replaces an existing file.

    Args:
        model: a model whose backbone and head can be built by name.
        path: the file to write, by convention ending in ``.headswap``.
        images: some of these are copied into the file, as thumbnails and golden samples. By default no user images
            are; the golden samples are synthetic.

    Returns:
        The result of the comparison.

    Raises:
        InputError: if the model cannot be built by name or the file cannot be written. A file at ``path`` is kept then.
    """
    path = Path(path)
    _check_serializable(model)
    golden = make_golden_samples(model, images)
    with atomic_write(path) as file:
        _write_archive(file, model, golden, images, path.name)
        file.flush()
        reloaded, _ = _read_model(file, path.name)
        with _translate_parity_errors():
            return check_parity(
                "The file", lambda pixels: reloaded.predict_proba_cropped(pixels.movedim(-1, 1)), golden
            )


def load(path: str | os.PathLike[str]) -> Classifier:
    """Load a model from its file. On the machine that saved it, its probabilities are the same to the last bit.

    Nothing in the file is trusted or executed. The golden samples are predicted once and every entry is compared with
    its checksum; what differs outside the weights is reported by one ``DamageWarning``.

    Args:
        path: a ``.headswap`` file.

    Returns:
        The model in evaluation mode.

    Raises:
        InputError: if the file is not a model file, is damaged, contradicts its description, or was saved by a newer
            headswap.
    """
    model, problem = load_and_verify(path)
    if problem:
        warnings.warn(problem, DamageWarning, stacklevel=2)
    return model


def load_and_verify(path: str | os.PathLike[str]) -> tuple[Classifier, str]:
    """Load a model as ``load`` does, but return the problem instead of warning.

    Returns:
        The model, and a sentence about what differs from the file that was saved, "" if nothing does.
    """
    reject_url(path)
    path = Path(path)
    with _open_model_file(path) as file:
        model, description = _read_model(file, path.name)
        with _translate_load_errors(path.name), _open_archive(file) as archive:
            num_bytes = file.seek(0, os.SEEK_END)
            report = check_integrity(archive, num_bytes, description, model, DESCRIPTION_ENTRY, WEIGHTS_ENTRY)
            return model, report.format_message(path.name)


# Saving


def _check_serializable(model: Classifier) -> None:
    """Raise ``InputError`` for a model that could not be loaded again."""
    head_config = get_head_config(model.head)
    if head_config is None:
        raise InputError(
            f"The head {type(model.head).__name__} was given as a callable or set by hand, so a file cannot say how to "
            "build it again. Register it with headswap.register_head('my_head', MyHead) and adapt with head='my_head'."
        )
    try:
        find_backbone(model.backbone)
    except ValueError as error:
        raise InputError(
            f"The backbone {model.backbone} was given as a module, so a file cannot say how to build it again. "
            "Adapt the model by one of the names of headswap.backbones(), or by timm/<name>."
        ) from error
    if any(not is_utf8_encodable(name) for name in model.classes):
        raise InputError("The name of a class holds half a character, which no file can hold. Adapt the model anew.")
    with torch.device("meta"):
        built_again = build_from_description(describe_model(model))
    if get_tensor_specs(built_again) != get_tensor_specs(model):
        raise InputError(
            f"This model is not what {model.backbone} with a {head_config.head_name} head is, in single precision; it "
            "was changed by hand. Save its state_dict with torch.save instead."
        )
    if not all(map(is_finite, model.state_dict().values())):
        raise InputError("Some of this model's weights are no numbers any more, so it is worth nothing; train it anew.")


def _write_archive(
    file: BinaryIO, model: Classifier, golden: GoldenSamples, images: LabelledImages | None, name: str
) -> None:
    weights = dump_weights(model)
    usage = MODEL_FILE_USAGE.format(name=name, count=len(golden.pixels))
    others = build_model_card(model, Path(name).stem, usage)
    others |= {GOLDEN_PREFIX + part: content for part, content in golden.to_files().items()}
    if images:
        others |= _make_thumbnails(images)
    weights_sha256 = hashlib.sha256(weights).hexdigest()
    description = dump_description(describe_model(model, weights_sha256, compute_checksums(others)))
    entries = (
        make_checksum_entry(DESCRIPTION_ENTRY, description)
        | {DESCRIPTION_ENTRY: description, WEIGHTS_ENTRY: weights}
        | others
    )
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for entry, content in entries.items():
            archive.writestr(zipfile.ZipInfo(entry, (1980, 1, 1, 0, 0, 0)), content)  # same date, same bytes


def _make_thumbnails(images: LabelledImages) -> dict[str, bytes]:
    """Some images of each class as square JPEG files, named by numbers because class and file names are private."""
    num_taken: dict[int, int] = {}
    entries = {}
    for i, labels in enumerate(images.label_sets):
        label = labels[0] if labels else -1
        number = num_taken[label] = num_taken.get(label, 0) + 1
        if number <= MAX_THUMBNAILS_PER_CLASS:
            pixels = read_pixels(images.paths[i], THUMBNAIL_SIZE)
            square = center_crop(pixels, [THUMBNAIL_SIZE, THUMBNAIL_SIZE])
            entries[f"thumbnails/{label + 1}-{number}.jpg"] = encode_jpeg(square)
    return entries


# Loading


def _read_model(file: BinaryIO, name: str) -> tuple[Classifier, ModelDescription]:
    with _translate_load_errors(name):
        with _open_archive(file) as archive:
            entries = _read_entries(archive)
            description = parse_description(archive.read(entries[DESCRIPTION_ENTRY]))
            model = build_on_meta_device(description)
            weights_entry = entries[WEIGHTS_ENTRY]
            with archive.open(weights_entry) as stream:
                check_safetensors_header(stream, weights_entry.file_size, get_tensor_specs(model))
            weights = archive.read(weights_entry)
        state_dict = parse_weights(weights, description.sha256)
        del weights
        for key in state_dict:  # into torch's own memory: the last bit of a product may depend on its alignment
            state_dict[key] = state_dict[key].clone()
        model = load_weights(model, description, state_dict)
        if not is_finite(model.predict_proba([torch.zeros(3, 8, 8, dtype=torch.uint8)])):
            raise InvalidModelFile("its answers are no numbers")
        return model, description


@contextmanager
def _open_model_file(path: Path) -> Iterator[BinaryIO]:
    shown = sanitize(str(path))
    if not os.path.isfile(path):  # opening a named pipe would block
        raise InputError(f"{shown} is not there, or is no file. Choose another one.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{shown} cannot be read: {error.strerror or error}.") from error
    with file:
        yield file


@contextmanager
def _translate_load_errors(name: str) -> Iterator[None]:
    """Report any error in the block as an ``InputError`` of one or two sentences that name the file."""
    from pydantic import ValidationError

    name = sanitize(name)
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{name} needs more memory than there is.") from error
    except InvalidModelFile as error:
        raise InputError(f"{name} cannot be opened: {error}") from error
    except ValidationError as error:
        raise InputError(f"{name} cannot be opened: its description is damaged. Save or download it again.") from error
    except Exception as error:  # zipfile, json and safetensors raise many kinds of errors for damaged files
        raise InputError(
            f"{name} is no headswap model, or it is damaged or cut short. Save or download it again."
        ) from error


@contextmanager
def _translate_parity_errors() -> Iterator[None]:
    try:
        yield
    except ParityError as error:
        raise InputError(f"{error} It was not written.") from error


def _open_archive(file: BinaryIO) -> zipfile.ZipFile:
    # For the central directory, which zipfile reads at once.
    bounded = BoundedFile(file, MAX_DESCRIPTION_BYTES, InvalidModelFile, "it is said to hold more than it can")
    archive = zipfile.ZipFile(bounded)
    bounded.max_read_bytes = file.seek(0, os.SEEK_END)
    return archive


def _read_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries by name; the description and the weights are there and not compressed.

    Raises:
        InvalidModelFile: if one is missing, compressed, encrypted, duplicated or too long.
    """
    listed = archive.infolist()
    entries = {info.filename: info for info in listed}
    if len(entries) < len(listed):
        raise InvalidModelFile("two of its entries have the same name")
    for required in (DESCRIPTION_ENTRY, WEIGHTS_ENTRY):
        if required not in entries:
            raise InvalidModelFile(f"{required} is missing")
        info = entries[required]
        if not is_uncompressed(info) or info.flag_bits & 1:
            raise InvalidModelFile("it was packed anew; a model's file is not compressed")
    if entries[DESCRIPTION_ENTRY].file_size > MAX_DESCRIPTION_BYTES:
        raise InvalidModelFile("its description is too long")
    return entries
