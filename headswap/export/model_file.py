"""A trained model as one file: ``name.headswap``, a zip of weights, a description, a card for people and golden images.

Nothing in it is code, and nothing of it is run: the description names a backbone and a head of our own tables, the
network is built from these without any numbers, and weights are taken only if every name, shape and type is what that
network has and every number is finite. Nothing in it is compressed, so it holds no more than it weighs. A file proves
itself when it opens: whatever else in it is not as it was saved is told.

Knows nothing of how models are taught, nor of other formats.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as pictures

from headswap.common.atomic import atomic_write
from headswap.common.errors import InputError
from headswap.common.rng import SeededRandomMode
from headswap.common.text import sanitize
from headswap.data.dataset import LabelledImages
from headswap.data.decoding import encode_jpeg, read_pixels
from headswap.data.picture_inputs import reject_url
from headswap.export.integrity import DamageWarning, check_integrity, compute_checksums, make_checksum_entry
from headswap.export.model_card import build_model_card
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
    parse_bounded_json,
    parse_description,
    sanitize_and_truncate,
)
from headswap.networks.catalogue import find_backbone
from headswap.networks.classifier import Classifier
from headswap.networks.head_registry import get_head_config

MODEL_FILE_SUFFIX = ".headswap"
DESCRIPTION_ENTRY, WEIGHTS_ENTRY = "headswap.json", "weights.safetensors"
MAX_HEADER_BYTES_PER_TENSOR = 1_000  # bytes that say of one tensor where its numbers lie
THUMBNAIL_SIZE, MAX_THUMBNAILS_PER_CLASS = 128, 20  # pixels a side; of each class

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

# The types of safetensors and what torch calls them, of those that a network here can have.
_SAFETENSORS_DTYPES = {
    "F32": torch.float32,
    "I64": torch.int64,
    "I32": torch.int32,
    "BOOL": torch.bool,
    "U8": torch.uint8,
}


def save(model: Classifier, path: str | os.PathLike[str], images: LabelledImages | None = None) -> ParityReport:
    """Write a model as one file, which is loaded again and compared before it takes the place of an old one.

    Args:
        model: whose backbone and head have names in the tables.
        path: mostly ending in ``.headswap``.
        images: some of these go with it, as thumbnails and as golden images; without them nobody's images do.

    Returns:
        What the comparison said.

    Raises:
        InputError: if the model cannot be described by names, or the file cannot be written. What was there stays.
    """
    path = Path(path)
    _check_serializable(model)
    known = make_golden_samples(model, images)
    with atomic_write(path) as file:
        _write_archive(file, model, known, images, path.name)
        file.flush()
        again, _ = _read_model(file, path.name)
        with _translate_parity_errors():
            return check_parity("The file", lambda squares: again.predict_proba_cropped(squares.movedim(-1, 1)), known)


def load(path: str | os.PathLike[str]) -> Classifier:
    """A model from its file, as it was saved: on the same machine it gives the same probabilities to the last bit.

    Nothing in the file is trusted or run. It answers its golden images once, and every entry is compared with its
    hash: what is wrong besides the weights is told by a ``DamageWarning``, one for the file.

    Raises:
        InputError: if it is no such file, or damaged, or not what it says of itself, or of a newer headswap.
    """
    model, told = load_and_verify(path)
    if told:
        warnings.warn(told, DamageWarning, stacklevel=2)
    return model


def load_and_verify(path: str | os.PathLike[str]) -> tuple[Classifier, str]:
    """As ``load``, which warns: the model, and in a sentence what else of its file is not as it was saved, or ""."""
    reject_url(path)
    path = Path(path)
    with _open_model_file(path) as file:
        model, described = _read_model(file, path.name)
        with _translate_load_errors(path.name), _open_archive(file) as archive:
            size = file.seek(0, os.SEEK_END)
            return model, check_integrity(
                archive, size, described, model, DESCRIPTION_ENTRY, WEIGHTS_ENTRY
            ).format_message(path.name)


# Saving


def _check_serializable(model: Classifier) -> None:
    made = get_head_config(model.head)
    if made is None:
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
    if _tensor_specs(build_on_meta_device(describe_model(model))) != _tensor_specs(model):
        raise InputError(
            f"This model is not what {model.backbone} with a {made.head_name} head is, in single precision; it was changed "
            "by hand. Save its state_dict with torch.save instead."
        )
    if not all(map(_is_finite, model.state_dict().values())):
        raise InputError("Some of this model's weights are no numbers any more, so it is worth nothing; train it anew.")


def _write_archive(
    file: BinaryIO, model: Classifier, golden: GoldenSamples, images: LabelledImages | None, name: str
) -> None:
    # Clones, because safetensors refuses tensors that share their numbers.
    state = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in model.state_dict().items()}
    weights = safetensors.torch.save(state)
    usage = MODEL_FILE_USAGE.format(name=name, count=len(golden.pixels))
    others = build_model_card(model, Path(name).stem, usage)
    others |= {f"golden/{part}": content for part, content in golden.to_files().items()}
    if images:
        others |= _make_thumbnails(images)
    described = dump_description(describe_model(model, hashlib.sha256(weights).hexdigest(), compute_checksums(others)))
    entries = (
        make_checksum_entry(DESCRIPTION_ENTRY, described)
        | {DESCRIPTION_ENTRY: described, WEIGHTS_ENTRY: weights}
        | others
    )
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for entry, content in entries.items():
            archive.writestr(zipfile.ZipInfo(entry, (1980, 1, 1, 0, 0, 0)), content)


def _make_thumbnails(images: LabelledImages) -> dict[str, bytes]:
    """Some images of each class under numbers: names are somebody's own."""
    taken: dict[int, int] = {}
    entries = {}
    for i, shown in enumerate(images.label_sets):
        label = shown[0] if shown else -1
        number = taken[label] = taken.get(label, 0) + 1
        if number <= MAX_THUMBNAILS_PER_CLASS:
            pixels = read_pixels(images.paths[i], THUMBNAIL_SIZE)
            square = pictures.center_crop(pixels, [THUMBNAIL_SIZE, THUMBNAIL_SIZE])
            entries[f"thumbnails/{label + 1}-{number}.jpg"] = encode_jpeg(square)
    return entries


# Loading


def _read_model(file: BinaryIO, name: str) -> tuple[Classifier, ModelDescription]:
    with _translate_load_errors(name):
        with _open_archive(file) as archive:
            entries = _read_entries(archive)
            described = parse_description(archive.read(entries[DESCRIPTION_ENTRY]))
            model = build_on_meta_device(described)
            _check_safetensors_header(archive, entries[WEIGHTS_ENTRY], _tensor_specs(model))
            weights = archive.read(entries[WEIGHTS_ENTRY])
        if hashlib.sha256(weights).hexdigest() != described.sha256:
            raise InvalidModelFile("its weights are not those that it was saved with")
        state = safetensors.torch.load(weights)
        del weights
        if not all(map(_is_finite, state.values())):
            raise InvalidModelFile("some of its weights are no numbers")
        for key in state:  # into memory of torch's own, because the last bit of a product may depend on where it lies
            state[key] = state[key].clone()
        model = _load_weights(model, described, state)
        if not _is_finite(model.predict_proba([torch.zeros(3, 8, 8, dtype=torch.uint8)])):
            raise InvalidModelFile("its answers are no numbers")
        return model, described


@contextmanager
def _open_model_file(path: Path) -> Iterator[BinaryIO]:
    shown = sanitize(str(path))
    if not os.path.isfile(path):  # a named pipe would be waited for
        raise InputError(f"{shown} is not there, or is no file. Choose another one.")
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{shown} cannot be read: {error.strerror or error}.") from error
    with file:
        yield file


class BoundedFile:
    """A file that gives no more than so many bytes at once: a zip's list of entries is read in one go, and so is an
    entry, however long it is said to be."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.max_read_bytes = file, MAX_DESCRIPTION_BYTES

    def read(self, size: int = -1) -> bytes:
        if size > self.max_read_bytes:
            raise InvalidModelFile("it is said to hold more than it can")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def _translate_load_errors(name: str) -> Iterator[None]:
    """Whatever goes wrong with a file is one sentence."""
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
    except Exception as error:  # zip, JSON and safetensors each stumble in their own ways over what is damaged
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
    sober = BoundedFile(file)
    archive = zipfile.ZipFile(sober)
    sober.max_read_bytes = file.seek(0, os.SEEK_END)
    return archive


def _read_entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    listed = archive.infolist()
    entries = {info.filename: info for info in listed}
    if len(entries) < len(listed):
        raise InvalidModelFile("two of its entries have the same name")
    for needed in (DESCRIPTION_ENTRY, WEIGHTS_ENTRY):
        if needed not in entries:
            raise InvalidModelFile(f"{needed} is missing")
        info = entries[needed]
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
            raise InvalidModelFile("it was packed anew; a model's file is not compressed")
    if entries[DESCRIPTION_ENTRY].file_size > MAX_DESCRIPTION_BYTES:
        raise InvalidModelFile("its description is too long")
    return entries


def _tensor_specs(module: nn.Module) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in module.state_dict().items()}


def _check_safetensors_header(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, expected: dict[str, tuple[torch.dtype, tuple[int, ...]]]
) -> None:
    """The table at the head of the weights must be that of the network, before any of them is read."""
    with archive.open(info) as stream:
        head = stream.read(8)
        (length,) = struct.unpack("<Q", head)
        if length > MAX_HEADER_BYTES_PER_TENSOR * (1 + len(expected)):
            raise InvalidModelFile("its weights are more than its description says")
        table = parse_bounded_json(stream.read(length))
    found = {name: (_SAFETENSORS_DTYPES.get(row["dtype"]), tuple(row["shape"])) for name, row in table.items()}
    if found != expected:
        wrong = next((key for key in expected if found.get(key) != expected[key]), "their number")
        raise InvalidModelFile(f"its weights do not fit its description, {sanitize_and_truncate(wrong)} for one")
    size = sum(math.prod(shape) * kind.itemsize for kind, shape in expected.values())
    if 8 + length + size != info.file_size:
        raise InvalidModelFile("its weights are cut short")


def _load_weights(model: Classifier, description: ModelDescription, state_dict: Mapping[str, Tensor]) -> Classifier:
    """The network with its numbers, its past and its boundary."""
    model.load_state_dict(state_dict, assign=True)
    if _has_meta_tensors(model):  # of numbers that are no weights, as rotary positions
        with SeededRandomMode(0):  # all of it is overwritten
            model = build_from_description(description)
        model.load_state_dict(state_dict)
    model.preprocess, model.pretrained = description.preprocess, description.pretrained
    model.record, model.seen = description.record, description.seen
    if description.learning_stages > len(model.freezable_stages):
        raise InvalidModelFile("more of its stages learn than there are")
    return model.unfreeze(description.learning_stages).eval()


def _has_meta_tensors(model: nn.Module) -> bool:
    """Whether any tensor still has no numbers."""
    held = chain.from_iterable(vars(module).values() for module in model.modules())
    tensors = chain(model.parameters(), model.buffers(), (value for value in held if isinstance(value, Tensor)))
    return any(tensor.is_meta for tensor in tensors)


def _is_finite(tensor: Tensor) -> bool:
    """Whether every number is one, and every truth value 0 or 1."""
    if tensor.dtype == torch.bool:
        return bool((tensor.view(torch.uint8) <= 1).all())
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())
