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

from headswap.common.text import harmless
from headswap.data.formats import opened
from headswap.export.parity import AGREEMENT
from headswap.export.schema import Description, brief, parsed
from headswap.networks.classifier import Classifier

SUM = ".sha256"  # ending of the entry that holds the description's own hash, as `sha256sum -c` reads it
GOLDEN = "golden/"
MOST_GOLDEN = 20  # images that are answered
MOST_TOLD = 3  # entries that a sentence names
LONGEST = 40  # characters of such a name


class DamageWarning(UserWarning):
    """A model's file opens, but it is not as it was saved: something in it is damaged, missing or new, or the model
    does not answer its golden images as it did."""


@dataclass(frozen=True)
class Damage:
    """What is wrong with a file that opens all the same."""

    found: tuple[str, ...] = ()  # a few words each
    grave: bool = False  # the model may not be what it was

    def told(self, name: str) -> str:
        """For whoever opens the file, in a sentence or two; nothing where all is well."""
        if not self.found:
            return ""
        more = len(self.found) - MOST_TOLD
        what = ", ".join(self.found[:MOST_TOLD]) + f" and {more:,} more" * (more > 0)
        worth = "Do not rely on it" if self.grave else "Its weights and classes are whole, and it can be used"
        return f"{harmless(name)} is not as it was saved: {what}. {worth}; save or download it again."


def sums(entries: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each entry, in hexadecimal digits."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in entries.items()}


def own_sum(name: str, content: bytes) -> dict[str, bytes]:
    """An entry that holds the hash of another, which cannot hold its own."""
    return {name + SUM: f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode()}


def damage(
    archive: zipfile.ZipFile, size: int, described: Description, model: Classifier, own: str, weights: str
) -> Damage:
    """What of a file is not as it was saved.

    Args:
        archive: the file.
        size: its length in bytes; no more is read in all.
        described: what it says of itself.
        model: which answers.
        own: the entry of the description.
        weights: the entry of the weights, which were checked already.
    """
    contents, found = _read(archive, size, weights)
    wanted = {name: digest for name, digest in described.entries.items() if name != weights}
    found |= {name: "is missing" for name in wanted if name not in contents and name not in found}
    digests = sums(contents)
    found |= {name: "is damaged" for name, digest in wanted.items() if digests.get(name, digest) != digest}
    grave = False
    if described.entries:
        new = contents.keys() - wanted.keys() - {own, own + SUM}
        found |= dict.fromkeys(sorted(new), "was added")
        if own + SUM not in contents:
            found.setdefault(own + SUM, "is missing")
        elif contents[own + SUM] != own_sum(own, contents[own])[own + SUM]:
            found[own], grave = f"and {own + SUM} do not agree", True
    told = [f"{brief(name)[:LONGEST]} {what}" for name, what in found.items()]
    if not any(name.startswith(GOLDEN) and what != "was added" for name, what in found.items()):
        fails = _fails(contents, described, model)
        told, grave = [*told, *fails], grave or bool(fails)
    return Damage(tuple(told), grave)


def _read(archive: zipfile.ZipFile, size: int, weights: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """What the entries hold, and what is wrong with those that cannot be read."""
    contents, wrong = {}, {}
    for info in archive.infolist():
        size -= info.compress_size
        if info.filename == weights:
            continue
        if size < 0:
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


def _fails(contents: Mapping[str, bytes], described: Description, model: Classifier) -> list[str]:
    """How the model fails its golden images, in a few words; nothing where it answers them as it did."""
    if GOLDEN + "golden.json" not in contents:
        return ["its golden images are missing"]
    try:
        classes, squares, expected = _golden(contents, described)
    except Exception:  # PNG and JSON as well
        return ["its golden images cannot be read"]
    if classes != described.classes:
        return ["its golden images are answered with other classes"]
    difference = float((model.answer_squares(squares) - expected).abs().nan_to_num(torch.inf).max())
    if difference > AGREEMENT:
        return [f"it answers its golden images otherwise, by up to {difference:.1g}"]
    return []


def _golden(contents: Mapping[str, bytes], described: Description) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Classes, pictures uint8 ``[N, 3, size, size]`` and the answers ``[N, classes]`` to them; nothing is trusted."""
    told = parsed(contents[GOLDEN + "golden.json"])
    rows, side = told["images"], described.preprocess.size
    if not 1 <= len(rows) <= MOST_GOLDEN:
        raise ValueError("too few golden images, or too many")
    expected = torch.tensor([row["probabilities"] for row in rows], dtype=torch.float32)
    if expected.shape != (len(rows), len(described.classes)):
        raise ValueError("another number of answers")
    squares = []
    for row in rows:
        picture = opened(io.BytesIO(contents[GOLDEN + row["pixels"]]), "golden.png")
        if (picture.format, picture.mode, picture.size) != ("PNG", "RGB", (side, side)):
            raise ValueError("no such square")
        squares.append(pil_to_tensor(picture))
    return tuple(told["classes"]), torch.stack(squares), expected
