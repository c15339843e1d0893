"""Whatever becomes of a file's bytes, it is read or refused: thousands of mutations, drawn by a seed.

A reader that crashes ends the whole run, which is how it is noticed.
"""

import io
import random

import numpy as np
import pytest
import torch
from photographs import HEIC, photograph
from PIL import Image

from headswap.common.errors import InputError
from headswap.data.decoding import MAX_ASPECT_RATIO, read_image_size, read_pixels

SIDE = 16
EACH = 350

FORMATS = {
    "jpeg": ("JPEG", {"quality": 80}),
    "progressive jpeg": ("JPEG", {"progressive": True}),
    "mpo": ("MPO", {"save_all": True, "append_images": [Image.new("RGB", (40, 30), "blue")]}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "lzw tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "deflated tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "jpeg tiff": ("TIFF", {"compression": "jpeg"}),
    "packed tiff": ("TIFF", {"compression": "packbits"}),
    "fax tiff": ("TIFF", {"compression": "group4"}),
    "avif": ("AVIF", {"speed": 10}),
    "heic": (None, {}),
}


def whole(name):
    """The bytes of a small picture with EXIF, so that this is damaged as well."""
    form, options = FORMATS[name]
    if form is None:
        return HEIC
    picture, exif, stream = photograph(60, 40), Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    if options.get("compression") == "group4":
        picture = picture.convert("1")
    picture.save(stream, form, **options, **({} if form in ("GIF", "BMP") else {"exif": exif}))
    return stream.getvalue()


def flip_bits(data, chance):
    for _ in range(chance.choice((1, 3, 20))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def damage_the_header(data, chance):
    for _ in range(chance.choice((1, 2, 5))):
        data[chance.randrange(4, min(len(data), 200))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def exaggerate(data, chance):
    """Four bytes of the header become a number as large or as small as there is."""
    place = chance.randrange(4, min(len(data), 200))
    data[place : place + 4] = chance.choice(
        (b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4, b"\0\0\xff\xff", b"\xff\x7f\0\0")
    )


def cut_short(data, chance):
    del data[chance.randrange(4, len(data)) :]


def lose_a_block(data, chance):
    place = chance.randrange(4, len(data))
    del data[place : place + chance.choice((1, 4, 64, 512))]


def splice(data, chance):
    """A piece of the file stands in another place, too, over what was there or before it."""
    size = chance.choice((4, 32, 256))
    source, target = chance.randrange(len(data)), chance.randrange(4, len(data))
    data[target : target + chance.choice((0, size))] = data[source : source + size]


MUTATIONS = (flip_bits, damage_the_header, exaggerate, cut_short, lose_a_block, splice)


def outcome(path):
    """Whether it was read, and how; anything but that and an ``InputError`` is a failure."""
    try:
        size = read_image_size(path)
        assert min(size) > 0
    except InputError:
        size = None
    try:
        pixels = read_pixels(path, side=SIDE)
    except InputError:
        return "refused"
    assert pixels.dtype == torch.uint8 and pixels.shape[0] == 3
    assert min(pixels.shape[1:]) == SIDE and max(pixels.shape[1:]) <= MAX_ASPECT_RATIO * SIDE
    assert size is not None, "What is read has a size."
    assert (size[0] - size[1]) * (pixels.shape[2] - pixels.shape[1]) >= 0, "The size does not lie as the pixels do."
    return "read"


@pytest.mark.parametrize("name", FORMATS)
def test_a_mutated_file_is_read_or_refused(tmp_path, monkeypatch, name):
    # A header that lies within the bound costs no more than this, so that the test is about lies and not patience.
    monkeypatch.setenv("HEADSWAP_MAX_MEGAPIXELS", "1")
    data, chance, path = whole(name), random.Random(name), tmp_path / "a.jpg"
    path.write_bytes(data)
    outcomes = [outcome(path)]
    assert outcomes == ["read"]
    for number in range(EACH):
        mutated = bytearray(data)
        MUTATIONS[number % len(MUTATIONS)](mutated, chance)
        path.write_bytes(mutated)
        outcomes.append(outcome(path))
    assert "refused" in outcomes  # or nothing was damaged


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".heic", ".svg", ".pdf", ""])
def test_a_wrong_ending_changes_nothing(tmp_path, name, ending):
    data = whole(name)
    right, wrong = tmp_path / "right", tmp_path / f"wrong{ending}"
    for path in (right, wrong):
        path.write_bytes(data)
    assert read_image_size(wrong) == read_image_size(right)
    assert torch.equal(read_pixels(wrong, SIDE), read_pixels(right, SIDE))


@pytest.mark.parametrize(
    "start", [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF", b"BM", b"GIF89a", b"II*\0", b"MM\0*"]
)
@pytest.mark.parametrize("rest", [b"roses are red, violets are blue. " * 40, bytes(2000), b"\xff" * 2000])
def test_text_that_poses_as_a_picture_is_refused(tmp_path, start, rest):
    path = tmp_path / "a.jpg"
    path.write_bytes(start + rest)
    for read in (read_pixels, read_image_size):
        with pytest.raises(InputError, match=r"^a\.jpg: "):
            read(path)


def test_noise_is_refused(tmp_path):
    path, rng = tmp_path / "a.jpg", np.random.default_rng(0)
    for size in rng.integers(1, 4000, 200).tolist():
        path.write_bytes(rng.bytes(size))
        with pytest.raises(InputError):
            read_pixels(path)


def test_damage_is_not_told_on_the_console(tmp_path, capfd):
    data, path, chance = whole("jpeg tiff"), tmp_path / "a.tif", random.Random(0)
    for _ in range(50):
        mutated = bytearray(data)
        flip_bits(mutated, chance)
        path.write_bytes(mutated)
        outcome(path)
    assert "Error" not in capfd.readouterr().err
