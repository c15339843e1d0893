"""A folder, a zip or an upload is listed and fetched safely, whatever lies in it."""

import errno
import os
import stat
import struct
import zipfile

import pytest
from pictures import FLOWERS, check_refused, drawn, folder, reasons, zipped

from headswap import sources
from headswap.errors import InputError
from headswap.images import Report
from headswap.reading import gather, load_images

pytestmark = pytest.mark.usefixtures("private_folders")


# What is listed


def test_names_from_windows_are_understood(tmp_path, flowers):
    names = [r"flowers\roses\a.png", r"flowers\roses\b.png", "flowers\\tulips\\", r"flowers\tulips\a.png"]
    images = load_images(zipped(tmp_path / "a.zip", *names))
    assert images.classes == ("roses", "tulips")
    assert images.report.skipped == ()
    images = gather([(r".\roses\a.png", flowers / FLOWERS[0]), (r".\tulips\a.png", flowers / FLOWERS[2])])
    assert images.names == ("roses/a.png", "tulips/a.png")


def test_the_litter_of_operating_systems_is_passed_over_in_silence(tmp_path, flowers):
    litter = (
        ".DS_Store",
        "roses/._a.png",
        "__MACOSX/roses/a.png",
        ".git/x/a.png",
        "roses/Thumbs.db",
        "tulips/desktop.ini",
    )
    archive = zipped(tmp_path / "a.zip", *FLOWERS, *litter)
    folder(flowers, *litter, content=b"litter")
    for source in (flowers, archive):
        assert load_images(source).report == Report(read=4)


def test_control_characters_are_made_harmless(tmp_path):
    names = ("ro\x1b[31mses/a\nb.png", "tulips/a.png", "tulips/\x07.txt", os.fsdecode(b"tulips/\xff.png"))
    images = load_images(
        folder(tmp_path, *names[:2], names[3]) and folder(tmp_path, names[2], content=b"x") and tmp_path
    )
    assert images.classes == (r"ro\x1b[31mses", "tulips")
    text = "".join([*images.names, *images.classes, str(images.report)]).replace("\n", "")
    assert text.isprintable()


def test_named_pipes_devices_and_loops_do_not_hang(flowers):
    os.mkfifo(flowers / "roses" / "x.png")
    (flowers / "roses" / "zero.png").symlink_to("/dev/zero")
    (flowers / "roses" / "nowhere.png").symlink_to("no such file")
    (flowers / "roses" / "loop").symlink_to(flowers)
    images = load_images(flowers)
    assert len(images) == 4
    assert "not a regular file" in reasons(images)["roses/x.png"]
    assert "not a regular file" in reasons(images)["roses/zero.png"]
    assert "cannot be opened" in reasons(images)["roses/nowhere.png"]
    assert "link to a folder" in reasons(images)["roses/loop"]


def test_a_link_to_a_picture_is_as_good_as_the_picture(tmp_path, flowers):
    elsewhere = folder(tmp_path / "elsewhere", "c.png") / "c.png"
    (flowers / "roses" / "c.png").symlink_to(elsewhere)
    images = load_images(flowers)
    elsewhere.unlink()
    assert images.counts == {"roses": 3, "tulips": 2}
    assert images.pixels(2, side=20).shape == (3, 20, 24)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_skipped(flowers):
    (flowers / "roses" / "a.png").chmod(0)
    (flowers / "tulips").chmod(0)
    folder(flowers, "violets/a.png")
    images, named = load_images(flowers), load_images(flowers, name="my flowers")
    (flowers / "tulips").chmod(0o700)
    assert images.names == ("roses/b.png", "violets/a.png")
    assert "permissions" in reasons(images)["roses/a.png"]
    assert "permissions" in reasons(images)["flowers/tulips"]
    assert "permissions" in reasons(named)["my flowers/tulips"]


# What cannot be opened at all, or is too much


def test_sources_that_are_none_are_refused(tmp_path):
    check_refused(tmp_path / "nowhere", "nowhere does not exist")
    check_refused(tmp_path / ("x" * 5000), "does not exist")
    check_refused(folder(tmp_path, "a.csv", content=b"a,b") / "a.csv", "a.csv", "holds no image")
    check_refused(folder(tmp_path, "a.zip", content=b"PK") / "a.zip", "a.zip is not a zip or is damaged")
    check_refused(folder(tmp_path, "b.zip", content=b"") / "b.zip", "not a zip")
    os.mkfifo(tmp_path / "pipe.zip")
    check_refused(tmp_path / "pipe.zip", "neither a folder nor a zip")


def test_too_many_bytes_are_refused_while_they_are_unpacked(tmp_path, flowers, monkeypatch):
    archive = zipped(tmp_path / "a.zip", *FLOWERS)
    monkeypatch.setattr(sources, "MAX_BYTES", 3 * len(drawn()))
    check_refused(archive, "a.zip holds more than", "take fewer")
    load_images(flowers)  # a hard link costs nothing


# Hostile zips


def test_a_name_that_leads_outside_is_skipped_and_nothing_is_written_there(tmp_path, private_folders):
    names = ("../../evil/a.png", "/evil/a.png", r"..\evil\a.png", r"C:\evil\a.png", "roses/../../a.png")
    before = set(tmp_path.rglob("*"))
    images = load_images(zipped(tmp_path / "a.zip", *FLOWERS, *names))
    assert len(images) == 4
    assert len(images.report.skipped) == len(names)
    assert all("leads outside" in reason for _, reason in images.report.skipped)
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "a.zip"}
    for path in images.paths:
        assert path.parent.parent == private_folders


def test_links_inside_a_zip_are_skipped(tmp_path):
    archive = zipped(tmp_path / "a.zip", *FLOWERS)
    link = zipfile.ZipInfo("roses/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    assert reasons(load_images(archive)) == {"roses/link.png": "is a link, which is not followed"}


def test_a_zip_inside_is_skipped(tmp_path):
    archive = zipped(tmp_path / "a.zip", *FLOWERS)
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("violets/all.zip", zipped(tmp_path / "b.zip", "a.png").read_bytes())
    assert reasons(load_images(archive)) == {"violets/all.zip": "is a zip inside; unpack it first"}


def test_a_damaged_member_is_skipped(tmp_path):
    archive = zipped(tmp_path / "a.zip", *FLOWERS)
    content = bytearray(archive.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    archive.write_bytes(content)
    images = load_images(archive)
    assert images.names == FLOWERS[1:]
    assert "damaged inside the zip" in reasons(images)["roses/a.png"]


def test_damage_anywhere_gives_images_or_an_input_error(tmp_path):
    archive = zipped(tmp_path / "a.zip", *FLOWERS)
    content = archive.read_bytes()
    for place in range(0, len(content), 17):
        archive.write_bytes(content[:place] + bytes([content[place] ^ 0x15]) + content[place + 1 :])
        try:
            load_images(archive)
        except InputError:
            continue


def test_an_encrypted_zip_is_refused(tmp_path):
    archive = zipped(tmp_path / "a.zip", *FLOWERS)
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    check_refused(archive, "a.zip is encrypted", "without a password")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packing_methods_without_a_bound_are_not_unpacked(tmp_path, method):
    archive = zipped(tmp_path / "a.zip", *FLOWERS)
    with zipfile.ZipFile(archive, "a", method) as opened:
        opened.writestr("roses/c.png", drawn())
    assert "unusual method" in reasons(load_images(archive))["roses/c.png"]


def bombed(path, promised=None):
    """A zip with one picture's worth of zeros that is packed a thousandfold and may lie about its size."""
    zipped(path, *FLOWERS)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("roses/bomb.png", bytes(8 * 1024**2))
    if promised is not None:
        content = bytearray(path.read_bytes())
        central = content.rindex(b"PK\1\2")
        struct.pack_into("<I", content, central + 24, promised)
        struct.pack_into("<I", content, content.index(b"roses/bomb.png") - 8, promised)
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("promised", [None, 2**31])
def test_a_bomb_is_stopped_while_it_unpacks(tmp_path, monkeypatch, promised):
    archive = bombed(tmp_path / "a.zip", promised)
    monkeypatch.setattr(sources, "_CHUNK", 1024)
    monkeypatch.setattr(sources, "MAX_BYTES", 1024**2)
    check_refused(archive, "a.zip holds more than")


def test_a_single_file_that_is_too_large_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 1024**2)
    assert "larger than 1 MB" in reasons(load_images(bombed(tmp_path / "a.zip")))["roses/bomb.png"]


@pytest.mark.parametrize("promised", [10, 2**31])
def test_a_header_that_lies_about_a_size_costs_only_its_file(tmp_path, promised):
    images = load_images(bombed(tmp_path / "a.zip", promised))
    assert images.names == FLOWERS
    assert set(reasons(images)) == {"roses/bomb.png"}


# What stays when the source goes


def remove(root):
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize("linked", [True, False])
def test_the_source_may_disappear(flowers, monkeypatch, linked):
    def impossible(*args, **options):
        raise OSError(errno.EXDEV, "another disk")

    if not linked:
        monkeypatch.setattr("os.link", impossible)
    images = load_images(flowers)
    assert [os.stat(path).st_nlink for path in images.paths] == [2 if linked else 1] * 4
    remove(flowers)
    assert images.pixels(0, side=20, interpolation="bilinear").shape == (3, 20, 24)
