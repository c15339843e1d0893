"""Whether a model's file is as it was saved: every entry by its SHA-256, and the model by its golden images.

What is found here is told and never refuses a file: the weights, and whether they fit, are checked before. A hash
guards against damage, not against somebody who writes a new one. Files of older versions have no hashes; of these
only the checksums of the zip and the golden images are looked at.

Knows nothing of how a model is built from its file.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from headswap.common.text import sanitize
from headswap.data.formats import open_image
from headswap.export.parity import PARITY_TOLERANCE
from headswap.export.schema import ModelDescription, parse_bounded_json, sanitize_and_truncate
from headswap.networks.classifier import Classifier

CHECKSUM_SUFFIX = ".sha256"  # ending of the entry that holds the description's own hash, as `sha256sum -c` reads it
GOLDEN_PREFIX = "golden/"
MAX_GOLDEN_SAMPLES = 20  # images that are answered
MAX_REPORTED_PROBLEMS = 3  # entries that a sentence names
MAX_ENTRY_NAME_LENGTH = 40  # characters of such a name


class DamageWarning(UserWarning):
    """A model's file opens, but it is not as it was saved: something in it is damaged, missing or new, or the model
    does not answer its golden images as it did."""


@dataclass(frozen=True)
class IntegrityReport:
    """What is wrong with a file that opens all the same."""

    problems: tuple[str, ...] = ()  # a few words each
    is_severe: bool = False  # the model may not be what it was

    def format_message(self, name: str) -> str:
        """For whoever opens the file, in a sentence or two; nothing where all is well."""
        if not self.problems:
            return ""
        more = len(self.problems) - MAX_REPORTED_PROBLEMS
        what = ", ".join(self.problems[:MAX_REPORTED_PROBLEMS]) + f" and {more:,} more" * (more > 0)
        worth = "Do not rely on it" if self.is_severe else "Its weights and classes are whole, and it can be used"
        return f"{sanitize(name)} is not as it was saved: {what}. {worth}; save or download it again."


def compute_checksums(entries: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each entry, in hexadecimal digits."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in entries.items()}


def make_checksum_entry(name: str, content: bytes) -> dict[str, bytes]:
    """An entry that holds the hash of another, which cannot hold its own."""
    return {name + CHECKSUM_SUFFIX: f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()}


def check_integrity(
    archive: zipfile.ZipFile,
    max_bytes: int,
    description: ModelDescription,
    model: Classifier,
    description_entry: str,
    weights_entry: str,
) -> IntegrityReport:
    """What of a file is not as it was saved.

    Args:
        archive: the file.
        size: its length in bytes; no more is read in all.
        described: what it says of itself.
        model: which answers.
        own: the entry of the description.
        weights: the entry of the weights, which were checked already.
    """
    contents, found = _read_entry_contents(archive, max_bytes, weights_entry)
    wanted = {name: digest for name, digest in description.entries.items() if name != weights_entry}
    found |= {name: "is missing" for name in wanted if name not in contents and name not in found}
    digests = compute_checksums(contents)
    found |= {name: "is damaged" for name, digest in wanted.items() if digests.get(name, digest) != digest}
    grave = False
    if description.entries:
        new = contents.keys() - wanted.keys() - {description_entry, description_entry + CHECKSUM_SUFFIX}
        found |= dict.fromkeys(sorted(new), "was added")
        if description_entry + CHECKSUM_SUFFIX not in contents:
            found.setdefault(description_entry + CHECKSUM_SUFFIX, "is missing")
        elif (
            contents[description_entry + CHECKSUM_SUFFIX]
            != make_checksum_entry(description_entry, contents[description_entry])[description_entry + CHECKSUM_SUFFIX]
        ):
            found[description_entry], grave = f"and {description_entry + CHECKSUM_SUFFIX} do not agree", True
    told = [f"{sanitize_and_truncate(name)[:MAX_ENTRY_NAME_LENGTH]} {what}" for name, what in found.items()]
    if not any(name.startswith(GOLDEN_PREFIX) and what != "was added" for name, what in found.items()):
        fails = _check_golden_outputs(contents, description, model)
        told, grave = [*told, *fails], grave or bool(fails)
    return IntegrityReport(tuple(told), grave)


def _read_entry_contents(
    archive: zipfile.ZipFile, max_bytes: int, weights_entry: str
) -> tuple[dict[str, bytes], dict[str, str]]:
    """What the entries hold, and what is wrong with those that cannot be read."""
    contents, wrong = {}, {}
    for info in archive.infolist():
        max_bytes -= info.compress_size
        if info.filename == weights_entry:
            continue
        if max_bytes < 0:
            wrong[info.filename] = "cannot be read"
            continue
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            wrong[info.filename] = "was packed anew"
            continue
        try:
            contents[info.filename] = archive.read(info)
        except Exception:  # each damage of a zip is met in another way
            wrong[info.filename] = "is damaged"
    return contents, wrong


def _check_golden_outputs(contents: Mapping[str, bytes], description: ModelDescription, model: Classifier) -> list[str]:
    """How the model fails its golden images, in a few words; nothing where it answers them as it did."""
    if GOLDEN_PREFIX + "golden.json" not in contents:
        return ["its golden images are missing"]
    try:
        classes, squares, expected = _parse_golden_samples(contents, description)
    except Exception:  # PNG and JSON as well
        return ["its golden images cannot be read"]
    if classes != description.classes:
        return ["its golden images are answered with other classes"]
    difference = float((model.predict_proba_cropped(squares) - expected).abs().nan_to_num(torch.inf).max())
    if difference > PARITY_TOLERANCE:
        return [f"it answers its golden images otherwise, by up to {difference:.1g}"]
    return []


def _parse_golden_samples(
    contents: Mapping[str, bytes], description: ModelDescription
) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Classes, pictures uint8 ``[N, 3, size, size]`` and the answers ``[N, classes]`` to them; nothing is trusted."""
    told = parse_bounded_json(contents[GOLDEN_PREFIX + "golden.json"])
    rows, side = told["images"], description.preprocess.size
    if not 1 <= len(rows) <= MAX_GOLDEN_SAMPLES:
        raise ValueError("too few golden images, or too many")
    expected = torch.tensor([row["probabilities"] for row in rows], dtype=torch.float32)
    if expected.shape != (len(rows), len(description.classes)):
        raise ValueError("another number of answers")
    squares = []
    for row in rows:
        picture = open_image(io.BytesIO(contents[GOLDEN_PREFIX + row["pixels"]]), "golden.png")
        if (picture.format, picture.mode, picture.size) != ("PNG", "RGB", (side, side)):
            raise ValueError("no such square")
        squares.append(pil_to_tensor(picture))
    return tuple(told["classes"]), torch.stack(squares), expected
