"""A model's file taken to pieces and put together again, rightly or wrongly, and what loading says of it.

Knows no fixtures.
"""

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from drawings import SHAPES, shape, small_model
from every_network import five_ordinarily

import headswap
from headswap import InputError
from headswap.export.model_file import DESCRIPTION_ENTRY, WEIGHTS_ENTRY
from headswap.networks.bundled_weights import BUNDLED
from headswap.networks.catalogue import backbones, find_backbone

TINY = "timm/test_efficientnet"  # half a megabyte with all that goes with it
ROOT = Path(__file__).parents[2]

_ROWS = [row for row in backbones() if row.source == "torchvision"]
_SMALLEST = [
    min((row for row in _ROWS if row.family == family), key=lambda row: row.million_weights)
    for family in sorted({row.family for row in _ROWS})
]
# A small network of every family, of the bundled ones and of several kinds of timm's; the last has numbers that are no
# weights.
FAMILIES = list(
    five_ordinarily(
        (
            *(row.name for row in _SMALLEST),
            next(iter(BUNDLED)),
            *(f"timm/{name}" for name in ("test_vit", "test_vit_relpos", "test_convnext", "test_nfnet")),
            "timm/eva02_tiny_patch14_224",
        )
    )
)


def side_of(name):
    """Its own size where nothing else will do, else pixels enough for the deepest."""
    return find_backbone(name).input_size if name.startswith(("vit", "maxvit", "timm/")) else 96


def tiny_model(classes=3, **options):
    """A model that is saved and loaded in no time."""
    return small_model(classes, backbone=TINY, **options)


def pictures(count=2):
    """Shapes that no golden image shows, as uint8 tensors."""
    return [headswap.data.decoding.read_pixels(shape(name, 3 + i), 96) for name in SHAPES for i in range(count)]


def same_answers(one, other):
    """Whether two models say the same of pictures, to the last bit; and say different things of different ones."""
    mine, theirs = one.predict_proba(pictures()), other.predict_proba(pictures())
    assert mine.isfinite().all() and not torch.equal(mine[0], mine[-1])
    return torch.equal(mine, theirs)


def unpacked(path):
    """``{entry: content}``, in the file's order."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path, entries, how=zipfile.ZIP_STORED):
    """The same as a zip, with right check sums."""
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def described(path):
    """What the file says of its model."""
    return json.loads(unpacked(path)[DESCRIPTION_ENTRY])


def redescribed(path, target, change):
    """The file with another description: ``change`` is given it, and may return another one."""
    entries = unpacked(path)
    said = json.loads(entries[DESCRIPTION_ENTRY])
    changed = change(said)
    if not isinstance(changed, bytes):
        changed = json.dumps(changed or said).encode()
    return packed(target, entries | {DESCRIPTION_ENTRY: changed})


def parted(weights):
    """The table at the head of the weights, and the numbers."""
    (length,) = struct.unpack("<Q", weights[:8])
    return json.loads(weights[8 : 8 + length]), weights[8 + length :]


def joined(table, numbers):
    """Both together."""
    head = json.dumps(table).encode()
    return struct.pack("<Q", len(head)) + head + numbers


def reweighed(path, target, change):
    """The file with other weights and the right sums of them: ``change`` makes bytes of the table and the numbers."""
    entries = unpacked(path)
    weights = change(*parted(entries[WEIGHTS_ENTRY]))
    entries[DESCRIPTION_ENTRY] = entries[DESCRIPTION_ENTRY].replace(
        hashlib.sha256(entries[WEIGHTS_ENTRY]).hexdigest().encode(), hashlib.sha256(weights).hexdigest().encode()
    )
    return packed(target, entries | {WEIGHTS_ENTRY: weights})


def one_sentence(told, name):
    """Whether it is short, names the file, and can be shown as it stands."""
    return told.isprintable() and name in told and len(told) < 400 and re.search(r"[.?!]$", told) is not None


def refusal(path):
    """Why a file is not loaded."""
    with pytest.raises(InputError) as caught:
        headswap.load(path)
    told = str(caught.value)
    assert one_sentence(told, Path(path).name), told
    return told


def in_new_process(code, *arguments, **how):
    """Run some lines of Python that find the library, the tests and their helpers; returns what they print."""
    paths = os.pathsep.join(map(str, (ROOT, *filter(Path.is_dir, (ROOT / "tests").iterdir()))))
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": paths}, cwd=ROOT, capture_output=True, text=True, **how
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


# Lets a process have no more memory than it has already, and so many megabytes more.
BOUNDED = """
import resource

def bound(megabytes):
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + megabytes * 2**20,) * 2)
"""
