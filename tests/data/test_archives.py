"""A zip or a tar of any origin gives its pictures, and a hostile one costs nothing but itself."""

import io
import stat
import struct
import tarfile
import zipfile

import pytest
from pictures import FLOWERS, check_refused, drawn, own, reasons, zipped

from headswap.common.errors import InputError
from headswap.data import archives
from headswap.data.loading import load_images

pytestmark = pytest.mark.usefixtures("private_folders")


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
    assert reasons(load_images(archive)) == {"violets/all.zip": "is an archive inside; unpack it first"}


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
    content, refused = archive.read_bytes(), 0
    places = range(0, len(content), 17)
    for place in places:
        archive.write_bytes(content[:place] + bytes([content[place] ^ 0x15]) + content[place + 1 :])
        try:
            load_images(archive)
        except InputError:
            refused += 1
    assert 0 < refused < len(places)


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
    monkeypatch.setenv("HEADSWAP_MAX_UNPACKED_MEGABYTES", "1")
    check_refused(archive, "a.zip unpacks to more than", "take fewer")


def test_a_single_file_that_is_too_large_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_FILE_MEGABYTES", "1")
    assert "larger than 1 MB" in reasons(load_images(bombed(tmp_path / "a.zip")))["roses/bomb.png"]


@pytest.mark.parametrize("promised", [10, 2**31])
def test_a_header_that_lies_about_a_size_costs_only_its_file(tmp_path, promised):
    images = load_images(bombed(tmp_path / "a.zip", promised))
    assert images.names == FLOWERS
    assert set(reasons(images)) == {"roses/bomb.png"}


def test_a_bomb_is_known_by_what_it_unpacks_to_in_proportion(tmp_path, monkeypatch):
    archive = bombed(tmp_path / "a.zip")
    assert len(load_images(archive)) == 4  # eight megabytes of nothing are only no picture
    monkeypatch.setattr(archives, "_UNPACK_ALLOWANCE_BYTES", 1024**2)
    monkeypatch.setenv("HEADSWAP_MAX_RATIO", "100")
    check_refused(archive, "a.zip unpacks to more than 100 times its size", "pack the pictures again")


def test_files_that_overlap_are_refused(tmp_path):
    archive = zipped(tmp_path / "a.zip", *FLOWERS)
    content = bytearray(archive.read_bytes())
    last = content.rindex(b"PK\1\2")
    struct.pack_into("<I", content, last + 42, 0)  # the last file begins where the first does
    archive.write_bytes(content)
    check_refused(archive, "a.zip holds files that overlap")


def test_a_list_of_files_that_fills_the_memory_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_MAX_ZIP_DIRECTORY_BYTES", 200)
    check_refused(zipped(tmp_path / "a.zip", *FLOWERS), "a.zip lists too many files")


def test_a_mac_writes_utf_8_without_saying_so(tmp_path):
    archive = zipped(tmp_path / "a.zip", *(f"{name}/a.png" for name in ("roses", "a\u0308pfel")))
    content = bytearray(archive.read_bytes())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = -1
        while (start := content.find(mark, start + 1)) >= 0:
            content[start + place + 1] &= 0xF7
    archive.write_bytes(content)
    assert load_images(archive).classes == ("roses", "\u00e4pfel")  # and composed, as a table would have it


# Tar


def tarred(path, *members, mode="w:gz"):
    """A tar with these members: a name is a picture of its own, a TarInfo stands for itself."""
    with tarfile.open(path, mode) as archive:
        for member in members:
            content = b""
            if isinstance(member, str):
                member, content = tarfile.TarInfo(member), own(member)
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def special(name, kind, link=""):
    """A member that is no file."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize("ending, mode", [("tar", "w"), ("tar.gz", "w:gz"), ("tgz", "w:gz")])
def test_a_tar_is_read_as_a_zip_is(tmp_path, ending, mode, private_folders):
    images = load_images(tarred(tmp_path / f"a.{ending}", *FLOWERS, ".DS_Store", "roses/._a.png", mode=mode))
    theirs = load_images(zipped(tmp_path / "a.zip", *FLOWERS))
    assert (images.classes, images.names, images.labels) == (theirs.classes, theirs.names, theirs.labels)
    assert images.report == theirs.report
    assert [path.read_bytes() for path in images.paths] == [own(name) for name in FLOWERS]
    assert len(list(private_folders.iterdir())) == 2  # what was unpacked on the way is gone


def test_a_table_inside_a_tar_is_found(tmp_path):
    path, table = tmp_path / "a.tar.gz", b"file,label\na.png,rose\nb.png,tulip\n"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {"labels.csv": table, "a.png": own("a.png"), "b.png": own("b.png")}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert load_images(path).classes == ("rose", "tulip")


def test_links_devices_and_holes_in_a_tar_are_skipped(tmp_path):
    hollow = special("roses/hollow.png", tarfile.GNUTYPE_SPARSE)
    others = [
        special("roses/link.png", tarfile.SYMTYPE, "/etc/passwd"),
        special("roses/hard.png", tarfile.LNKTYPE, "roses/a.png"),
        special("roses/zero.png", tarfile.CHRTYPE),
        special("roses/pipe.png", tarfile.FIFOTYPE),
    ]
    images = load_images(tarred(tmp_path / "a.tar", *FLOWERS, *others, hollow, mode="w"))
    assert images.names == FLOWERS
    assert reasons(images) == {
        "roses/link.png": "is a link, which is not followed",
        "roses/hard.png": "is a link, which is not followed",
        "roses/zero.png": "is not a regular file; give the picture itself",
        "roses/pipe.png": "is not a regular file; give the picture itself",
        "roses/hollow.png": "is packed with holes; pack it again",
    }


def test_a_name_in_a_tar_that_leads_outside_is_skipped_and_nothing_is_written_there(tmp_path):
    names = ("../../evil/a.png", "/evil/a.png", "C:/evil/a.png", "roses/../../a.png")
    archive, before = tarred(tmp_path / "a.tar.gz", *FLOWERS, *names), set(tmp_path.rglob("*"))
    images = load_images(archive)
    assert images.names == FLOWERS
    assert len(reasons(images)) == 4 and all("leads outside" in reason for reason in reasons(images).values())
    assert set(tmp_path.rglob("*")) == before


def test_a_tar_bomb_is_stopped_even_where_it_is_only_skipped(tmp_path, monkeypatch):
    bomb = tarfile.TarInfo("readme.txt")  # no picture, so nobody would unpack it
    bomb.size = 8 * 1024**2
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(bomb, io.BytesIO(bytes(bomb.size)))
    monkeypatch.setattr(archives, "_UNPACK_ALLOWANCE_BYTES", 1024**2)
    monkeypatch.setenv("HEADSWAP_MAX_RATIO", "100")
    check_refused(path, "a.tar.gz unpacks to more than 100 times its size")


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path):
    member = tarfile.TarInfo("roses/a.png")
    member.pax_headers = {"comment": "x" * 3 * 1024**2}
    check_refused(tarred(tmp_path / "a.tar", member, mode="w"), "a.tar has a header of more than 1 MB")


def test_headers_are_counted_one_by_one(tmp_path):
    path = tmp_path / "a.tar"
    skipped = [special(f"x/{i}.txt", tarfile.SYMTYPE, "y") for i in range(2500)]  # more than a megabyte of headers
    assert len(load_images(tarred(path, *skipped, *FLOWERS, mode="w"))) == 4


def test_a_tar_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_IMAGES", "1")
    folders = [special(f"{i}", tarfile.DIRTYPE) for i in range(6)]
    check_refused(tarred(tmp_path / "a.tar", *folders, mode="w"), "a.tar lists more than 5 files")


def test_a_header_that_leads_backwards_ends_the_tar(tmp_path):
    path = tarred(tmp_path / "a.tar", "x.txt", "y.txt", mode="w")
    content = bytearray(path.read_bytes())
    content[124:136] = (2**96 - 4096).to_bytes(12, "big")  # a size below zero
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    path.write_bytes(content)
    check_refused(path, "a.tar is damaged or cut short")


def test_damage_anywhere_in_a_tar_gives_images_or_an_input_error(tmp_path):
    whole = tarred(tmp_path / "a.tar.gz", *FLOWERS).read_bytes()
    path, read = tmp_path / "b.tar.gz", 0
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
        try:
            load_images(path)
            read += 1
        except InputError as error:
            assert str(error).startswith(("b.tar.gz ", "The class"))
    path.write_bytes(whole[: len(whole) // 2])
    check_refused(path, "b.tar.gz is damaged or cut short")
    assert read < len(whole) // 11
