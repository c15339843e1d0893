"""Every file becomes upright colour pixels of the right size, or one sentence that says why not."""

import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision.transforms import v2

from headswap import pixels
from headswap.errors import InputError
from headswap.pixels import INTERPOLATIONS, PictureError, harmless, read_pixels

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def flat(colour, size=(40, 30), mode="RGB"):
    return Image.new(mode, size, colour)


def saved(picture, path, **options):
    picture.save(path, **options)
    return path


def colour_of(tensor, place=(0.5, 0.5)):
    height, width = tensor.shape[1:]
    return tuple(tensor[:, int(place[0] * height), int(place[1] * width)].tolist())


def photograph(width, height, seed=0):
    """Smooth light, the noise of a sensor, and edges."""
    rng = np.random.default_rng(seed)
    down, along = np.mgrid[0:height, 0:width]
    waves = [128 + 90 * np.sin(along / width * (2 + i) + down / height * 3) for i in range(3)]
    light = np.stack(waves, axis=-1) + rng.normal(0, 8, (height, width, 3))
    picture = Image.fromarray(light.clip(0, 255).astype("uint8"))
    draw = ImageDraw.Draw(picture)
    for x, y, size in rng.integers((0, 0, width // 30), (width, height, width // 5), (40, 3)).tolist():
        draw.ellipse([x, y, x + size, y + size], fill=tuple(rng.integers(0, 256, 3).tolist()))
        draw.line([x, y, x + 2 * size, y - size], fill=tuple(rng.integers(0, 256, 3).tolist()), width=3)
    return picture


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
    in_colour = pixels._in_colour
    monkeypatch.setattr(pixels, "_in_colour", lambda image: decoded.append(image.size) or in_colour(image))
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
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
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


def test_a_16_bit_png_with_a_transparent_grey_is_read(tmp_path):
    path = saved(grey(np.array([[0, 65535]], dtype=np.uint16)), tmp_path / "a.png", transparency=40000)
    assert colour_of(read_pixels(path, side=10), (0.5, 0.9)) == WHITE


def test_floats_that_are_no_numbers_are_refused():
    with pytest.raises(PictureError):
        read_pixels(Image.fromarray(np.full((9, 9), np.nan, dtype=np.float32)))


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_the_first_frame_of_an_animation_counts(tmp_path, ending):
    frames = [flat(BLUE), flat(GREEN)]
    lossless = {"lossless": True} if ending == "webp" else {}
    path = saved(flat(RED), tmp_path / f"a.{ending}", save_all=True, append_images=frames, **lossless)
    assert colour_of(read_pixels(path)) == RED


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
    assert isinstance(caught.value, PictureError)
    assert str(caught.value) == f"{caught.value.name}: {caught.value.reason}."
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "gif", "tif"])
def test_a_file_cut_short_is_refused_by_name(tmp_path, ending):
    path = saved(photograph(200, 150), tmp_path / f"rose.{ending}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path, f"rose.{ending}: ", "damaged or cut short", "again")


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "gif", "tif"])
def test_damage_anywhere_gives_pixels_or_a_reason_but_no_other_exception(tmp_path, ending):
    path = saved(photograph(60, 40), tmp_path / f"a.{ending}")
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(4, min(len(whole), 400), 5).tolist():
            damaged[place] = int(rng.integers(256))
        path.write_bytes(damaged)
        with suppress(PictureError):
            assert read_pixels(path, side=32).dtype == torch.uint8


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", ["empty"]),
        (b"roses are red", ["is not a JPEG, PNG", "export"]),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ["is not a JPEG, PNG"]),
        (b"\xff\xd8\xff", ["damaged"]),
        (b"\0\0\0\x18ftypheic\0\0\0\0", ["is a HEIC photograph", "export it as JPEG"]),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", ["is a HEIC photograph"]),
        (b"\0\0\0\x18ftypisom\0\0\0\0", ["is not a JPEG, PNG"]),
    ],
)
def test_what_is_no_picture_is_refused_with_its_reason(tmp_path, content, words):
    path = tmp_path / "rose.jpg"
    path.write_bytes(content)
    refused(path, "rose.jpg", *words)


def test_a_heic_photograph_is_known_by_its_ending_too(tmp_path):
    path = tmp_path / "rose.HEIC"
    path.write_bytes(b"something else")
    refused(path, "is a HEIC photograph")


def test_formats_that_can_run_code_or_leave_the_file_are_not_tried(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    refused(path, "is not a JPEG, PNG")


def test_a_named_pipe_a_device_and_a_folder_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "zero.png", "folder.png"):
        refused(tmp_path / name, name, "not a regular file")


def test_a_link_to_a_picture_is_read(tmp_path):
    saved(flat(RED), tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert colour_of(read_pixels(tmp_path / "b.png")) == RED


@pytest.mark.parametrize("path", ["no-such-file.png", "nul\0.png", "x" * 5000 + ".png"])
def test_a_path_that_leads_nowhere_is_refused(path):
    refused(Path(path))
    refused(path)


def test_a_file_too_large_is_refused_before_it_is_opened(tmp_path):
    path = tmp_path / "a.png"
    with open(path, "wb") as stream:
        stream.truncate(pixels.MAX_FILE_BYTES + 1)
    refused(path, "larger than 64 MB")


def bomb(path, width, height):
    """A PNG of a few bytes whose header promises many pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("size", [(10_001, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_by_the_header(tmp_path, size):
    refused(bomb(tmp_path / "a.png", *size), f"{size[0]} x {size[1]} pixels", "100 million")


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
    assert harmless("Früh‌ling 日本 \udcff") == "Früh‌ling 日本 \\udcff"
