"""Every file becomes upright colour pixels of the right size, or one sentence that says why not."""

import io
import os
import socket
import struct
import sys
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from deep import blobs, deep_files, png, scaled
from photographs import HEIC, photograph
from PIL import Image, ImageCms, ImageFile
from torchvision.transforms import v2

from headswap.common.errors import ImageReadError, InputError
from headswap.common.limits import get_limits
from headswap.common.text import sanitize
from headswap.data import decoding, formats, image_readers
from headswap.data.decoding import INTERPOLATIONS, read_image_size, read_pixels

ROOT = Path(__file__).parents[2]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def flat(colour, size=(40, 30), mode="RGB"):
    return Image.new(mode, size, colour)


def saved(picture, path, **options):
    picture.save(path, **options)
    return path


def colour_of(tensor, place=(0.5, 0.5)):
    height, width = tensor.shape[1:]
    return tuple(tensor[:, int(place[0] * height), int(place[1] * width)].tolist())


@pytest.mark.parametrize("size, expected", [((400, 300), (64, 85)), ((30, 40), (85, 64)), ((9, 9), (64, 64))])
def test_the_shorter_side_is_exact_and_the_aspect_ratio_kept(tmp_path, size, expected):
    tensor = read_pixels(saved(flat(RED, size), tmp_path / "a.png"), side=64)
    assert tensor.dtype == torch.uint8
    assert tuple(tensor.shape) == (3, *expected)


def test_a_panorama_keeps_its_middle(tmp_path):
    picture = flat(BLUE, (1000, 10))
    picture.paste(RED, (490, 0, 510, 10))
    for source in (saved(picture, tmp_path / "a.png"), picture):
        tensor = read_pixels(source, side=16)
        assert tuple(tensor.shape) == (3, 16, 64)
        assert colour_of(tensor) == RED
        assert colour_of(tensor, (0.5, 0.05)) == BLUE
    assert tuple(read_pixels(picture.transpose(Image.Transpose.ROTATE_90), side=16).shape) == (3, 64, 16)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("width, bound", [(900, 0.0), (1366, 0.55), (2400, 0.25)])
def test_the_quick_way_stays_close_to_torchvision(tmp_path, interpolation, width, bound):
    path = saved(photograph(width, width * 3 // 4), tmp_path / "a.jpg", quality=90)
    resize = v2.Resize(256, v2.InterpolationMode(interpolation), antialias=True)
    theirs = v2.functional.pil_to_tensor(resize(Image.open(path).convert("RGB")))
    ours = read_pixels(path, 256, interpolation)
    assert ours.shape == theirs.shape
    assert (ours.float() - theirs.float()).abs().mean().item() <= bound


def test_a_large_jpeg_is_decoded_smaller(tmp_path, monkeypatch):
    path, decoded = saved(flat(RED, (1600, 1200)), tmp_path / "a.jpg"), []
    in_colour = decoding._convert_to_rgb
    monkeypatch.setattr(decoding, "_convert_to_rgb", lambda image: decoded.append(image.size) or in_colour(image))
    read_pixels(path, side=100)
    assert decoded == [(400, 300)]


def test_a_picture_in_memory_is_read_and_left_as_it_was(tmp_path):
    path = saved(photograph(1600, 1200), tmp_path / "a.jpg")
    with Image.open(path) as picture:
        tensor = read_pixels(picture, side=100)
        assert picture.size == (1600, 1200)
        picture.load()
        assert picture.size == (1600, 1200)
    assert (tensor.float() - read_pixels(path, side=100).float()).abs().mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "avif"])
def test_exif_orientation_is_applied(tmp_path, orientation, ending):
    upright = flat(WHITE, (80, 60))
    upright.paste(RED, (0, 0, 40, 30))
    turned = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if turned is None else upright.transpose(turned)
    path = saved(stored, tmp_path / f"a.{ending}", exif=exif, **({"quality": 95} if ending != "tif" else {}))
    tensor = read_pixels(path, side=60)
    assert tuple(tensor.shape) == (3, 60, 80)
    found = [colour_of(tensor, place)[1] < 100 for place in [(0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8)]]
    assert found == [True, False, False, False]
    assert read_image_size(path) == (80, 60)


def test_a_heic_photograph_is_turned_upright_once(tmp_path):
    (tmp_path / "a.heic").write_bytes(HEIC)
    assert b"Exif" in HEIC and b"irot" in HEIC  # it says twice that it lies on its side
    tensor = read_pixels(tmp_path / "a.heic", side=48)
    assert tuple(tensor.shape) == (3, 48, 64)
    found = [colour_of(tensor, place)[1] < 100 for place in [(0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8)]]
    assert found == [True, False, False, False]
    assert read_image_size(tmp_path / "a.heic") == (64, 48)


def test_without_its_package_a_heic_photograph_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "_pi_heif", None)
    (tmp_path / "a.heic").write_bytes(HEIC)
    refused(tmp_path / "a.heic", 'HEIC needs pip install "headswap[heic]"', "export it as JPEG")


def test_exif_behind_the_pixels_of_a_png_counts(tmp_path):
    path = saved(flat(RED, (80, 60)), tmp_path / "a.png")
    exif = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, 3, 1, 6, 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-12] + chunk(b"eXIf", exif) + whole[-12:])
    assert tuple(read_pixels(path, side=60).shape) == (3, 80, 60)
    assert read_image_size(path) == (60, 80)


class OtherDecoder:
    """As a later library might have it."""

    def __init__(self, *given):
        self.given = given

    def get_info(self):
        return (64, 48), 1, "RGB"


def raising(error):
    def call(*_, **__):
        raise error

    return call


def bound_of(requirement):
    [line] = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith(requirement)]
    assert "<" in line  # what reads a library's private parts must not meet versions that nobody has tried
    return line


@pytest.mark.parametrize(
    "other", [OtherDecoder, raising(TypeError("takes 4 arguments")), raising(AttributeError("no get_info"))]
)
def test_an_avif_decoder_that_has_changed_is_not_taken_for_a_damaged_file(other, tmp_path, monkeypatch):
    path = saved(flat(RED, (40, 30)), tmp_path / "a.avif")
    monkeypatch.setattr("PIL._avif.AvifDecoder", other)
    refused(path, "in another way than is known here", f'pip install "{bound_of("pillow")}"', "export it as JPEG")


@pytest.mark.parametrize(
    "other",
    [
        lambda *_: [SimpleNamespace(primary=True, size=(64, 48))],
        lambda *_: [SimpleNamespace(primary=True, size_mode=((64, 48), "RGB"))],
        raising(TypeError("takes 8 arguments")),
        raising(AttributeError("no primary")),
    ],
)
def test_a_heic_decoder_that_has_changed_is_not_taken_for_a_damaged_file(other, tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(HEIC)
    monkeypatch.setattr("_pi_heif.load_file", other)
    words = f'pip install "{bound_of("pi-heif")}"'
    refused(tmp_path / "a.heic", "in another way than is known here", words, "export it as JPEG")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif", "gif", "bmp", "avif"])
def test_the_size_is_told_without_decoding(tmp_path, monkeypatch, ending):
    path = saved(photograph(200, 150), tmp_path / f"a.{ending}")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    assert read_image_size(path) == (200, 150)


def test_broken_exif_is_no_reason_to_refuse(tmp_path):
    path = saved(flat(RED), tmp_path / "a.jpg", exif=b"Exif\0\0this is not a TIFF header at all")
    assert colour_of(read_pixels(path))[0] > 250


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    picture = flat((255, 0, 0, 255), (40, 40), "RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 20, 40))
    path = saved(picture.convert(mode), tmp_path / "a.png")
    tensor = read_pixels(path, side=40)
    assert colour_of(tensor, (0.5, 0.2)) == WHITE
    assert colour_of(tensor, (0.5, 0.8)) != WHITE


@pytest.mark.parametrize("ending", ["webp", "avif", "gif", "tif"])
def test_what_is_transparent_becomes_white_in_every_format(tmp_path, ending):
    picture = flat((255, 0, 0, 255), (40, 40), "RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 20, 40))
    tensor = read_pixels(saved(picture, tmp_path / f"a.{ending}"), side=40)
    assert min(colour_of(tensor, (0.5, 0.2))) > 250
    assert colour_of(tensor, (0.5, 0.8))[1] < 30


@pytest.mark.parametrize("mode", ["PA", "La", "RGBa"])
def test_transparency_that_no_file_holds_becomes_white_too(mode):
    picture = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    picture = picture.convert("LA").convert(mode) if mode == "La" else picture.convert(mode)
    assert colour_of(read_pixels(picture, side=40)) == WHITE


def test_a_palette_with_transparent_entries_becomes_white_there(tmp_path):
    picture = Image.new("P", (40, 40), 0)
    picture.putpalette([0, 0, 0, 0, 0, 255])
    picture.paste(1, (20, 0, 40, 40))
    tensor = read_pixels(saved(picture, tmp_path / "a.png", transparency=bytes([0, 255])), side=40)
    assert colour_of(tensor, (0.5, 0.2)) == WHITE
    assert colour_of(tensor, (0.5, 0.8)) == BLUE


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk_is_read(tmp_path, ending):
    red, green, blue = colour_of(read_pixels(saved(flat((0, 255, 255, 0), mode="CMYK"), tmp_path / f"a.{ending}")))
    assert red > 200
    assert max(green, blue) < 60


def test_lab_is_read(tmp_path):
    lab = ImageCms.profileToProfile(
        flat(RED), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    red, green, blue = colour_of(read_pixels(saved(lab, tmp_path / "a.tif")))
    assert red > 240 and max(green, blue) < 20


def test_luma_and_chroma_are_read(tmp_path):
    red, green, blue = colour_of(
        read_pixels(saved(flat(RED).convert("YCbCr"), tmp_path / "a.tif", compression="tiff_lzw"))
    )
    assert red > 240 and max(green, blue) < 20


def test_16_bits_of_each_colour_are_read(tmp_path):
    rows = b"".join(b"\0" + struct.pack(">HHH", 65535, 32896, 0) * 4 for _ in range(4))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    assert colour_of(read_pixels(tmp_path / "a.png", side=4)) == (255, 128, 0)


def test_a_black_and_white_picture_is_read(tmp_path):
    assert colour_of(read_pixels(saved(flat(1, mode="1"), tmp_path / "a.png"))) == WHITE


def grey(values):
    return Image.fromarray(np.array(values).repeat(10, 0).repeat(10, 1))


@pytest.mark.parametrize(
    "picture, expected",
    [
        (grey(np.array([[0, 32896, 65535]], dtype=np.uint16)), [0, 128, 255]),  # 16 bits
        (grey(np.array([[0, 2056, 4095]], dtype=np.uint16)), [0, 128, 255]),  # 12 bits in 16
        (grey(np.array([[0, 128, 255]], dtype=np.int32)), [0, 128, 255]),  # 8 bits in 32
        (grey(np.array([[-10, 0, 10]], dtype=np.int32)), [0, 128, 255]),  # no usual range
        (grey(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)), [0, 128, 255]),  # shares
        (grey(np.array([[3.0, 128.0, 250.0]], dtype=np.float32)), [3, 128, 250]),  # grey levels
    ],
)
def test_deep_greyscale_is_scaled_to_eight_bits(tmp_path, picture, expected):
    for source in (picture, saved(picture, tmp_path / "a.tif")):
        tensor = read_pixels(source, side=10)
        assert [colour_of(tensor, (0.5, place))[0] for place in (0.1, 0.5, 0.9)] == expected


def levels(source, side=72):
    return read_pixels(source, side).movedim(0, -1).numpy().astype(int)


def test_16_bits_keep_their_meaning_in_every_format_colours_too(tmp_path):
    for path, wanted in deep_files(tmp_path).items():
        assert np.array_equal(levels(path), wanted), path.name
        assert np.array_equal(levels(path.read_bytes()), wanted), path.name
        with Image.open(path) as picture:
            assert np.array_equal(levels(picture), wanted), path.name
            assert np.array_equal(levels(picture), wanted), path.name  # it is still as it was


def test_an_upright_16_bit_colour_picture_is_made_of_both_bytes_of_each_sample(tmp_path):
    exif = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, 3, 1, 6, 0)
    colours = blobs(3)
    whole = png(colours)
    (tmp_path / "a.png").write_bytes(whole[:33] + chunk(b"eXIf", exif) + whole[33:])
    assert np.array_equal(levels(tmp_path / "a.png"), np.rot90(scaled(colours), -1))


def test_a_tiff_of_a_kind_that_nobody_reads_is_not_called_damaged(tmp_path):
    tags = {256: 9, 257: 9, 258: 32, 259: 1, 262: 2, 273: 200, 277: 3, 278: 9, 279: 972, 339: 3}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(1200))
    refused(path, "a TIFF of a kind that is not read", "save it as a PNG")


# Portable bitmaps, greymaps and pixmaps


def pnm(path, head, samples):
    path.write_bytes(head + samples)
    return path


@pytest.mark.parametrize(
    "head, samples, wanted",
    [
        (b"P1\n# drawn by hand\n3 1\n", b"1 0\n1", [0, 255, 0]),
        (b"P1 3 1 ", b"101", [0, 255, 0]),
        (b"P2\n3 1\n255\n", b"0 128 # grey\n255", [0, 128, 255]),
        (b"P2 3 1 15 ", b"0 8 15", [0, 136, 255]),
        (b"P2 3 1 4095 ", b"0 2056 4095", [0, 128, 255]),
        (b"P3 3 1 255 ", b"0 0 0  128 128 128  255 255 255", [0, 128, 255]),
        (b"P4 3 1 ", bytes([0b10100000]), [0, 255, 0]),
        (b"P5 3 1 255 ", bytes([0, 128, 255]), [0, 128, 255]),
        (b"P5\n# 4 bits\n3 1\n15\n", bytes([0, 8, 15]), [0, 136, 255]),
        (b"P5 3 1 65535 ", struct.pack(">3H", 0, 2056, 4095), [0, 128, 255]),  # 12 bits in 16
        (b"P5 3 1 4095 ", struct.pack(">3H", 0, 2056, 4095), [0, 128, 255]),
        (b"P6 3 1 255 ", bytes([0] * 3 + [128] * 3 + [255] * 3), [0, 128, 255]),
        (b"P6 3 1 65535 ", struct.pack(">9H", *[0] * 3, *[32896] * 3, *[65535] * 3), [0, 128, 255]),
    ],
)
def test_portable_pictures_are_read_by_their_bytes(tmp_path, head, samples, wanted):
    for name in ("a.ppm", "no-ending", "a.jpg"):
        path = pnm(tmp_path / name, head, samples)
        assert read_image_size(path) == (3, 1)
        assert read_pixels(path, side=1)[0, 0].tolist() == wanted
    assert formats.is_image_header(head)


@pytest.mark.parametrize(
    "content",
    [
        b"P5 3 1 255 ab",  # cut short
        b"P6 3 1 254 " + bytes([255] * 9),  # brighter than the brightest
        b"P2 3 1 255 1 2",
        b"P2 3 1 255 1 2 300",
        b"P2 3 1 255 1 2 99999999999999999999999999",
        b"P2 3 1 255 1 -2 3",
        b"P2 3 1 255 1 two 3",
        b"P1 3 1 102",
        b"P5 3 1 0 abc",
        b"P5 3 1 70000 abcdef",
        b"P5 99999999999 1 255 abc",
    ],
)
def test_portable_pictures_that_are_not_what_they_say_are_refused(tmp_path, content):
    refused(pnm(tmp_path / "a.pgm", content, b""), "damaged")


def test_portable_pictures_are_bounded_like_others(tmp_path, monkeypatch):
    refused(pnm(tmp_path / "a.ppm", b"P6 60000 60000 255 ", b""), "60000 x 60000 pixels", "100 million")
    monkeypatch.setattr(image_readers, "_MAX_TEXT_BYTES", 1000)
    refused(pnm(tmp_path / "b.pgm", b"P2 1000 1 255 ", b"0 " * 1000), "text of more than", "save it as PNG")
    monkeypatch.setattr(image_readers, "_MAX_HEADER_BYTES", 1000)
    refused(pnm(tmp_path / "c.pgm", b"P5 3 #" + b"x" * 2000, b"\n1 255 abc"), "c.pgm")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "gif", "tif", "avif", "ppm"])
def test_a_picture_is_recognised_by_its_first_bytes(tmp_path, ending):
    path = saved(flat(RED), tmp_path / f"a.{ending}")
    assert formats.is_image_header(path.read_bytes()[:64])
    assert colour_of(read_pixels(path.rename(tmp_path / "nameless")))[0] > 200


def test_what_is_no_picture_is_not_recognised():
    sound = b"RIFF\x24\x08\0\0WAVEfmt "
    for start in (b"", b"P", b"roses", b"P5 is a chapter", b"BMW is a car", b"GIF8", sound, b"%PDF-1.7", b"PK\3\4"):
        assert not formats.is_image_header(start), start
    assert formats.is_image_header(HEIC)


# Whatever somebody hands over


@pytest.fixture
def coloured(tmp_path):
    """A file, and what Pillow decodes of it."""
    path = saved(photograph(90, 70), tmp_path / "a.png")
    return path, np.asarray(Image.open(path))


def test_whatever_a_picture_is_given_as_it_gives_the_pixels_of_its_file(coloured):
    path, array = coloured
    wanted, tensor = read_pixels(path, 64), torch.from_numpy(array.copy())
    wider = torch.zeros(70, 180, 3, dtype=torch.uint8)
    wider[:, ::2] = tensor
    with open(path, "rb") as stream:
        stream.seek(5)
        assert torch.equal(read_pixels(stream, 64), wanted) and stream.tell() == 5
    raw = path.read_bytes()
    for given in (
        raw, bytearray(raw), memoryview(raw), io.BytesIO(raw), io.BufferedReader(io.BytesIO(raw)),
        array, array[:, ::-1][:, ::-1], array.astype(np.int64), array.astype(np.uint16), memoryview(array),
        array / 255, (array / 255).astype(np.float32), array.transpose(2, 0, 1), array.transpose(2, 0, 1) / 255,
        np.dstack([array, np.full(array.shape[:2], 255, np.uint8)]),
        tensor, tensor.movedim(-1, 0), tensor.movedim(-1, 0).contiguous(), wider[:, ::2],
        tensor.movedim(-1, 0) / 255, (tensor / 255).double().requires_grad_(), tensor.long(),
    ):  # fmt: skip
        assert torch.equal(read_pixels(given, 64), wanted), type(given)
    for given in ((array / 255).astype(np.float16), (tensor / 255).half(), (tensor / 255).bfloat16()):
        assert (read_pixels(given, 64).float() - wanted.float()).abs().max() <= 2


def test_grey_arrays_are_read_as_files_of_such_values(tmp_path):
    deep = blobs()[..., 0]
    for name, array in {"deep": deep, "flat": scaled(deep), "signed": deep.astype(np.int32) - 1000}.items():
        wanted = read_pixels(saved(Image.fromarray(array), tmp_path / f"{name}.tif"), 64)
        for given in (array, array[..., None], array[None], torch.from_numpy(array)[None], Image.fromarray(array)):
            assert torch.equal(read_pixels(given, 64), wanted), name
    bits = deep > 2000
    assert torch.equal(read_pixels(bits, 64), read_pixels(saved(Image.fromarray(bits), tmp_path / "bits.png"), 64))
    big_endian = Image.frombytes("I;16B", (96, 72), deep.astype(">u2").tobytes())
    assert torch.equal(read_pixels(big_endian, 64), read_pixels(deep, 64))


def test_transparent_parts_of_arrays_become_white(tmp_path):
    clear = np.zeros((40, 50, 4), np.uint8)
    for array in (clear, clear.transpose(2, 0, 1), clear / 255, clear.astype(np.uint16), clear[..., :2]):
        assert colour_of(read_pixels(array, 40)) == WHITE


COLOUR = np.zeros((30, 40, 3))


@pytest.mark.parametrize(
    "given, words",
    [
        (COLOUR - 1.5, ["floats from -1.5 to -1.5", "before it was normalised"]),
        (COLOUR + 200.0, ["floats from 200", "divide by the largest possible value"]),
        (COLOUR + np.nan, ["no numbers"]),
        (COLOUR.astype(int) - 4, ["0 is black"]),
        (np.zeros(()), ["shape ()", "give [H, W, 3]"]),
        (np.zeros(9), ["shape (9)", "give [H, W, 3]"]),
        (np.zeros((3, 9, 3)), ["first or last", "Image.fromarray"]),
        (np.zeros((5, 9, 9)), ["no axis of 1 to 4 channels"]),
        (np.zeros((2, 9, 9, 3)), ["a batch", "as a list"]),
        (np.zeros((0, 9, 3), np.uint8), ["no pixels"]),
        (torch.randn(3, 9, 9) * 9, ["before it was normalised"]),
        (b"", ["empty"]),
        (b"roses", ["is not a JPEG"]),
        (io.BytesIO(), ["empty"]),
        ("https://example.org/cat.jpg", ["https://example.org/cat.jpg", "web address", "download the picture"]),
        (Path("https://example.org/cat.jpg"), ["web address", "download the picture"]),
        ("ftp://example.org/" + "x" * 5000, ["web address"]),
        ("data:image/png;base64,iVBORw0KGgo=", ["data address", "b64decode"]),
        (".", ["is a folder"]),
        ("", ["is a folder"]),
    ],
)
def test_what_says_too_little_of_how_it_looks_is_refused_with_what_to_give(given, words):
    with pytest.raises(ImageReadError) as caught:
        read_pixels(given)
    assert all(word in str(caught.value) for word in words) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "given, words",
    [
        (None, "not NoneType"),
        ([COLOUR, COLOUR], "one flat list"),
        ((COLOUR, 3), "none of their labels"),
        (io.StringIO("text"), "binary mode"),
        (np.array(["a", "b"]), "is no picture"),
        (np.zeros((9, 9), complex), "is no picture"),
        (torch.zeros(3, 9, 9).to_sparse(), "cannot be read"),
        (torch.zeros(3, 9, 9, device="meta"), "cannot be read"),
    ],
)
def test_what_is_no_picture_at_all_is_a_type_error_that_says_what_is_one(given, words):
    with pytest.raises(TypeError, match=words):
        read_pixels(given)


def test_a_stream_that_is_closed_or_endless_is_refused(coloured, monkeypatch):
    path, _ = coloured
    with open(path) as text, pytest.raises(TypeError, match="binary mode"):
        read_pixels(text)
    closed = open(path, "rb")  # noqa: SIM115
    closed.close()
    with pytest.raises(ImageReadError, match="open it again"):
        read_pixels(closed)
    with Image.open(path) as picture:
        pass
    with pytest.raises(ImageReadError, match="open it again"):
        read_pixels(picture)
    monkeypatch.setenv("HEADSWAP_MAX_FILE_MEGABYTES", "1")
    with open("/dev/zero", "rb") as endless, pytest.raises(ImageReadError, match="larger than 1 MB"):
        read_pixels(endless)


def test_a_16_bit_png_with_a_transparent_grey_is_read(tmp_path):
    path = saved(grey(np.array([[0, 65535]], dtype=np.uint16)), tmp_path / "a.png", transparency=40000)
    assert colour_of(read_pixels(path, side=10), (0.5, 0.9)) == WHITE


def test_floats_that_are_no_numbers_are_refused():
    with pytest.raises(ImageReadError):
        read_pixels(Image.fromarray(np.full((9, 9), np.nan, dtype=np.float32)))


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif", "avif"])
def test_the_first_frame_of_an_animation_counts(tmp_path, ending):
    frames = [flat(BLUE), flat(GREEN)]
    lossless = {"lossless": True} if ending == "webp" else {}
    path = saved(flat(RED), tmp_path / f"a.{ending}", save_all=True, append_images=frames, **lossless)
    red, green, blue = colour_of(read_pixels(path))
    assert red > 250 and max(green, blue) < 5


def test_a_bmp_is_read(tmp_path):
    assert colour_of(read_pixels(saved(flat(RED), tmp_path / "a.bmp"))) == RED


def test_a_phones_mpo_file_is_read(tmp_path):
    path = tmp_path / "a.jpg"
    flat(RED).save(path, format="MPO", save_all=True, append_images=[flat(BLUE)])
    with Image.open(path) as picture:
        assert picture.format == "MPO"
    assert colour_of(read_pixels(path))[0] > 250


def test_a_picture_is_known_by_its_bytes_not_by_its_ending(tmp_path):
    path = tmp_path / "a.heic"
    flat(RED).save(path, format="PNG")
    assert colour_of(read_pixels(path)) == RED


def refused(source, *words):
    with pytest.raises(InputError) as caught:
        read_pixels(source)
    if "damaged" not in str(caught.value):  # which may lie beyond the header
        with pytest.raises(InputError) as size:
            read_image_size(source)
        assert str(size.value) == str(caught.value)
    assert isinstance(caught.value, ImageReadError)
    assert str(caught.value) == f"{caught.value.name}: {caught.value.reason}."
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "gif", "tif", "avif"])
def test_a_file_cut_short_is_refused_by_name(tmp_path, ending):
    path = saved(photograph(200, 150), tmp_path / f"rose.{ending}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, f"rose.{ending}: ", "damaged or cut short", "again")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "gif", "tif", "avif"])
def test_damage_anywhere_gives_pixels_or_a_reason_but_no_other_exception(tmp_path, ending):
    path = saved(photograph(60, 40), tmp_path / f"a.{ending}")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(4, min(len(whole), 400), 5).tolist():
            damaged[place] = int(rng.integers(256))
        path.write_bytes(damaged)
        with suppress(ImageReadError):
            assert read_pixels(path, side=32).dtype == torch.uint8


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", ["empty"]),
        (b"roses are red", ["is not a JPEG, PNG", "export"]),
        (b"\xff\xd8\xff", ["damaged"]),
        (b"\0\0\0\x18ftypheic\0\0\0\0", ["damaged"]),
        (b"\0\0\0\x18ftypisom\0\0\0\0", ["is not a JPEG, PNG"]),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<svg/>", ["an SVG drawing", "export it as PNG"]),
        (b"  <svg xmlns='http://www.w3.org/2000/svg'/>", ["an SVG drawing"]),
        (b"<!DOCTYPE html><html><svg/>", ["a web page", "download the picture itself"]),
        (b"%PDF-1.7", ["a PDF document"]),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", ["a PostScript drawing"]),
        (b"8BPS\0\1", ["a Photoshop document"]),
        (b"II*\0\x10\0\0\0CR\2\0", ["a camera's raw file", "export it as JPEG"]),
    ],
)
def test_what_is_no_picture_is_refused_with_its_reason(tmp_path, content, words):
    path = tmp_path / "rose.jpg"
    path.write_bytes(content)
    refused(path, "rose.jpg", *words)


@pytest.mark.parametrize("name, word", [("a.svg", "SVG"), ("a.PDF", "PDF"), ("a.eps", "PostScript"), ("a.nef", "raw")])
def test_what_is_no_picture_is_known_by_its_ending_too(tmp_path, name, word):
    (tmp_path / name).write_bytes(b"something else")
    refused(tmp_path / name, word)


def test_a_raw_file_that_looks_like_a_tiff_is_not_taken_for_its_thumbnail(tmp_path):
    path = tmp_path / "a.dng"
    flat(RED).save(path, format="TIFF")
    refused(path, "a camera's raw file")


def test_a_named_pipe_a_device_and_a_folder_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "zero.png"):
        refused(tmp_path / name, name, "not a regular file")
    refused(tmp_path / "folder.png", "folder.png", "is a folder", "give the pictures in it")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        refused(tmp_path / "s", "cannot be opened")


def test_a_link_to_a_picture_is_read(tmp_path):
    saved(flat(RED), tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert colour_of(read_pixels(tmp_path / "b.png")) == RED


@pytest.mark.parametrize("path", ["no-such-file.png", "nul\0.png", "x" * 5000 + ".png"])
def test_a_path_that_leads_nowhere_is_refused(path):
    refused(Path(path))
    refused(path)


def test_a_file_too_large_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    with open(path, "wb") as stream:
        stream.truncate(get_limits().file_bytes + 1)
    refused(path, "larger than 64 MB")
    monkeypatch.setenv("HEADSWAP_MAX_FILE_MEGABYTES", "3")
    refused(path, "larger than 3 MB")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(path, width, height):
    """A PNG of a few bytes whose header promises many pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("size", [(10_001, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_by_the_header(tmp_path, size):
    refused(bomb(tmp_path / "a.png", *size), f"{size[0]} x {size[1]} pixels", "100 million")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "gif", "tif", "avif"])
def test_the_bound_on_pixels_holds_in_every_format_before_decoding(tmp_path, monkeypatch, ending):
    path = saved(flat(RED, (1001, 1000)), tmp_path / f"a.{ending}")
    monkeypatch.setenv("HEADSWAP_MAX_MEGAPIXELS", "1")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    refused(path, "1001 x 1000 pixels", "1 million")


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path):
    path = saved(flat(RED), tmp_path / "a.jpg", progressive=True)
    whole = path.read_bytes()
    assert colour_of(read_pixels(path))[0] > 250
    last = whole[whole.rindex(b"\xff\xc4") : -2]
    path.write_bytes(whole[:-2] + 100 * last + whole[-2:])
    refused(path, "more than 100 scans")


def test_a_gif_whose_comment_never_ends_is_refused(tmp_path):
    path = saved(flat(RED), tmp_path / "a.gif")
    whole = path.read_bytes()
    frame = whole.index(b",")
    path.write_bytes(whole[:frame] + b"!\xfe" + (b"\xff" + bytes(255)) * 5000 + b"\0" + whole[frame:])
    refused(path, "damaged")


def test_a_tiff_whose_tags_share_their_megabytes_is_refused_unread(tmp_path, monkeypatch):
    path = saved(flat(RED), tmp_path / "a.tif")
    tags = b"".join(struct.pack("<HHII", tag, 1, 10_000, 8) for tag in range(40_000, 41_000))
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", 1000) + tags + bytes(4))
    monkeypatch.setattr(image_readers, "_SixteenBitTiff", lambda stream: pytest.fail("read"))
    refused(path, "damaged")


def test_a_tiff_whose_only_tile_is_far_larger_than_the_picture_is_refused(tmp_path):
    tags = {256: 9, 257: 9, 258: 8, 259: 8, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 200, 325: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(400))
    with pytest.raises(ImageReadError, match="damaged") as caught:
        read_pixels(path)
    assert "more than a picture needs" in str(caught.value.__cause__)


def test_a_bound_that_is_no_number_is_not_blamed_on_the_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_MEGAPIXELS", "many")
    with pytest.raises(InputError, match="HEADSWAP_MAX_MEGAPIXELS is a whole number"):
        read_pixels(saved(flat(RED), tmp_path / "a.png"))


def test_the_pixels_that_pillow_warns_about_are_read_without_a_warning(tmp_path):
    path = saved(flat(200, (10_000, 9_500), "L"), tmp_path / "a.jpg")
    assert colour_of(read_pixels(path, side=32)) == (200, 200, 200)


def test_an_unknown_interpolation_and_an_impossible_side_are_the_callers_mistakes():
    with pytest.raises(ValueError, match="bicubic and bilinear"):
        read_pixels(flat(RED), interpolation="nearest")
    with pytest.raises(ValueError, match="at least one pixel"):
        read_pixels(flat(RED), side=0)
    with pytest.raises(TypeError):
        read_pixels(7)


def test_a_picture_without_pixels_is_refused():
    refused(Image.new("RGB", (0, 5)), "The picture")


def test_control_characters_in_a_name_are_written_out(tmp_path):
    path = tmp_path / "a\x1b[31m\u202egpj.png"
    path.write_bytes(b"no picture")
    refused(path, r"a\x1b[31m\u202egpj.png")
    assert sanitize("Früh‌ling 日本 \udcff") == "Früh‌ling 日本 \\udcff"


def test_an_avif_whose_exif_shares_its_megabytes_is_read_without_it(tmp_path):
    entries = b"".join(struct.pack("<HHII", tag, 1, 200_000, 8) for tag in range(40_000, 42_000))
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 2000) + entries + bytes(200_000)
    path = saved(flat(RED, (40, 30)), tmp_path / "a.avif", exif=exif)
    tracemalloc.start()
    assert read_image_size(path) == (40, 30)
    assert colour_of(read_pixels(path, side=30))[0] > 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_a_large_bmp_of_runs_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "a.bmp"
    rows = b"\x09\x00\0\0" * 9 + b"\0\1"
    head = struct.pack("<IiiHHIIiiII", 40, 9, 9, 1, 8, 1, len(rows), 0, 0, 256, 0) + bytes(1024)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 14 + len(head) + len(rows), 0, 0, 14 + len(head)) + head + rows)
    assert read_pixels(path, side=9).shape == (3, 9, 9)
    monkeypatch.setattr(image_readers, "_MAX_RLE_BYTES", 1024)
    refused(path, "packed BMP", "save it as PNG")
