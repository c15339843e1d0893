"""Checks a model file's entries against their SHA-256 checksums and its model against its golden samples.

A difference is reported and never refuses a file: the weights are checked before, when they are loaded. A checksum
detects damage, not an attacker who writes a new one. Files of older versions have no checksums; of these only the
CRCs of the zip and the golden samples are checked.

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

CHECKSUM_SUFFIX = ".sha256"  # of the entry with the description's checksum, in the format of `sha256sum -c`
GOLDEN_PREFIX = "golden/"
MAX_GOLDEN_SAMPLES = 20  # that are predicted
MAX_REPORTED_PROBLEMS = 3  # entries that a message names
MAX_ENTRY_NAME_LENGTH = 40  # characters of such a name


class DamageWarning(UserWarning):
    """A model file opens but differs from the file that was saved.

    Something in it is damaged, missing or new, or its model does not reproduce the golden samples.
    """


@dataclass(frozen=True)
class IntegrityReport:
    """What differs in a file that opens nevertheless."""

    problems: tuple[str, ...] = ()  # a few words each
    is_severe: bool = False  # the model may not be the one that was saved

    def format_message(self, name: str) -> str:
        """A message of two sentences about the file of this name, "" if there is no problem."""
        if not self.problems:
            return ""
        more = len(self.problems) - MAX_REPORTED_PROBLEMS
        what = ", ".join(self.problems[:MAX_REPORTED_PROBLEMS]) + f" and {more:,} more" * (more > 0)
        advice = "Do not rely on it" if self.is_severe else "Its weights and classes are whole, and it can be used"
        return f"{sanitize(name)} is not as it was saved: {what}. {advice}; save or download it again."


def compute_checksums(entries: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each entry in hexadecimal digits."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in entries.items()}


def make_checksum_entry(name: str, content: bytes) -> dict[str, bytes]:
    """An entry with the checksum of another one, for the description, which cannot contain its own."""
    return {name + CHECKSUM_SUFFIX: f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()}


def is_uncompressed(info: zipfile.ZipInfo) -> bool:
    """Whether an entry of a zip is stored without compression, so that it unpacks to no more than its size."""
    return info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size


def check_integrity(
    archive: zipfile.ZipFile,
    max_bytes: int,
    description: ModelDescription,
    model: Classifier,
    description_entry: str,
    weights_entry: str,
) -> IntegrityReport:
    """Compare a model file that was loaded with the file that was saved.

    Args:
        archive: the file.
        max_bytes: its length; entries beyond so many bytes in all, the weights included, are not read.
        description: what the file says of its model.
        model: the model that was loaded from it.
        description_entry: the name of the description's entry.
        weights_entry: the name of the weights' entry, which is checked when it is loaded.
    """
    contents, problems = _read_entry_contents(archive, max_bytes, weights_entry)
    problems |= _compare_checksums(contents, problems, description, weights_entry)
    is_severe = False
    if description.entries:
        checksum_entry = description_entry + CHECKSUM_SUFFIX
        added = contents.keys() - description.entries.keys() - {description_entry, checksum_entry, weights_entry}
        problems |= dict.fromkeys(sorted(added), "was added")
        if checksum_entry not in contents:
            problems.setdefault(checksum_entry, "is missing")
        elif (
            contents[checksum_entry]
            != make_checksum_entry(description_entry, contents[description_entry])[checksum_entry]
        ):
            problems[description_entry], is_severe = f"and {checksum_entry} do not agree", True
    reported = [f"{sanitize_and_truncate(name)[:MAX_ENTRY_NAME_LENGTH]} {what}" for name, what in problems.items()]
    if not any(name.startswith(GOLDEN_PREFIX) and what != "was added" for name, what in problems.items()):
        failures = _check_golden_outputs(contents, description, model)
        reported, is_severe = [*reported, *failures], is_severe or bool(failures)
    return IntegrityReport(tuple(reported), is_severe)


def _compare_checksums(
    contents: Mapping[str, bytes], problems: Mapping[str, str], description: ModelDescription, weights_entry: str
) -> dict[str, str]:
    """What is missing or damaged among the entries that the description lists."""
    expected = {name: digest for name, digest in description.entries.items() if name != weights_entry}
    digests = compute_checksums(contents)
    return {
        **{name: "is missing" for name in expected if name not in contents and name not in problems},
        **{name: "is damaged" for name, digest in expected.items() if digests.get(name, digest) != digest},
    }


def _read_entry_contents(
    archive: zipfile.ZipFile, max_bytes: int, weights_entry: str
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The content of all entries but the weights, and what is wrong with those that cannot be read."""
    contents: dict[str, bytes] = {}
    problems: dict[str, str] = {}
    for info in archive.infolist():
        max_bytes -= info.compress_size
        if info.filename == weights_entry:
            continue
        if max_bytes < 0:
            problems[info.filename] = "cannot be read"
            continue
        if not is_uncompressed(info):
            problems[info.filename] = "was packed anew"
            continue
        try:
            contents[info.filename] = archive.read(info)
        except Exception:  # zipfile raises many kinds of errors for damaged entries
            problems[info.filename] = "is damaged"
    return contents, problems


def _check_golden_outputs(contents: Mapping[str, bytes], description: ModelDescription, model: Classifier) -> list[str]:
    """How the model fails to reproduce its golden samples, in a few words; empty if it does reproduce them."""
    if GOLDEN_PREFIX + "golden.json" not in contents:
        return ["its golden images are missing"]
    try:
        classes, pixels, expected = _parse_golden_samples(contents, description)
    except Exception:  # whatever PNG and JSON decoders raise
        return ["its golden images cannot be read"]
    if classes != description.classes:
        return ["its golden images are answered with other classes"]
    difference = float((model.predict_proba_cropped(pixels) - expected).abs().nan_to_num(torch.inf).max())
    if difference > PARITY_TOLERANCE:
        return [f"it answers its golden images otherwise, by up to {difference:.1g}"]
    return []


def _parse_golden_samples(
    contents: Mapping[str, bytes], description: ModelDescription
) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Classes, uint8 ``[N, 3, size, size]`` and probabilities ``[N, classes]``; the contents are untrusted."""
    golden = parse_bounded_json(contents[GOLDEN_PREFIX + "golden.json"])
    rows, size = golden["images"], description.preprocess.size
    if not 1 <= len(rows) <= MAX_GOLDEN_SAMPLES:
        raise ValueError("too few golden images, or too many")
    expected = torch.tensor([row["probabilities"] for row in rows], dtype=torch.float32)
    if expected.shape != (len(rows), len(description.classes)):
        raise ValueError("another number of answers")
    pixels = []
    for row in rows:
        image = open_image(io.BytesIO(contents[GOLDEN_PREFIX + row["pixels"]]), "golden.png")
        if (image.format, image.mode, image.size) != ("PNG", "RGB", (size, size)):
            raise ValueError("not a PNG image of the network's input size")
        pixels.append(pil_to_tensor(image))
    return tuple(golden["classes"]), torch.stack(pixels), expected
