"""A folder, a zip or an upload is listed and fetched safely, whatever lies in it."""

import errno
import io
import os
import random
import tarfile
import zipfile

import pytest
from pictures import FLOWERS, check_refused, folder, load_files, reasons, zipped
from PIL import Image

from headswap.common.errors import InputError
from headswap.data.load_report import LoadReport
from headswap.data.loading import load_images
from headswap.data.sources import list_image_files

pytestmark = pytest.mark.usefixtures("private_folders")


# What is listed


def test_names_from_windows_are_understood(tmp_path, flowers):
    names = [r"flowers\roses\a.png", r"flowers\roses\b.png", "flowers\\tulips\\", r"flowers\tulips\a.png"]
    images = load_images(zipped(tmp_path / "a.zip", *names))
    assert images.classes == ("roses", "tulips")
    assert images.report.skipped == ()
    images = load_files([(r".\roses\a.png", flowers / FLOWERS[0]), (r".\tulips\a.png", flowers / FLOWERS[2])])
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
        assert load_images(source).report == LoadReport(num_read=4)


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


def noisy(path):
    """A zip with two pictures of about a megabyte each, which cannot be packed smaller."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("roses/large.bmp", "tulips/large.bmp"):
            stream = io.BytesIO()
            Image.frombytes("RGB", (600, 500), random.Random(name).randbytes(900_000)).save(stream, "BMP")
            archive.writestr(name, stream.getvalue())
    return path


# What is a picture


ODD_NAMES = ("photo.jpg_large", "photo", "photo.JPG.download", "photo.jpg~", "photo.bin", "photo.zip", "photo.txt")


@pytest.mark.parametrize("way", ["folder", "zip", "tar", "tar.gz", "upload"])
def test_sound_pictures_are_read_by_their_content_whatever_their_names(tmp_path, way):
    root = folder(tmp_path / "set", *(f"{kind}/{name}" for kind in ("cat", "dog") for name in ODD_NAMES))
    folder(root, "cat/README", "cat/notes.txt", "dog/film.mov", content=b"words")
    names = [f"{kind}/{name}" for kind in ("cat", "dog") for name in ODD_NAMES]
    if way == "folder":
        images = load_images(root)
    elif way == "upload":
        images = load_files([(path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.is_file()])
    else:
        images = load_images(packed(root, tmp_path / f"set.{way}"))
    assert sorted(images.names) == sorted(names)
    assert reasons(images) == dict.fromkeys(("cat/README", "cat/notes.txt", "dog/film.mov"), "is not a picture")


def packed(root, path):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in root.rglob("*"):
                archive.write(file, file.relative_to(root))
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            archive.add(root, ".")
    return path


def test_a_long_film_in_a_zip_is_looked_at_and_not_unpacked(tmp_path, flowers, monkeypatch):
    path = zipped(tmp_path / "a.zip", *FLOWERS)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("roses/film.mov", bytes(3 * 1024**2))
    monkeypatch.setenv("HEADSWAP_MAX_UNPACKED_MEGABYTES", "1")
    assert reasons(load_images(path)) == {"roses/film.mov": "is not a picture"}


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
def test_a_colon_or_a_backslash_in_a_folder_s_name_leads_nowhere(tmp_path):
    images = load_images(folder(tmp_path / "set", "a:b/1.png", "a:b/2.png", "c\\d/1.png", "c\\d/2.png"))
    assert images.classes == ("a:b", "c\\d")
    images = load_images(zipped(tmp_path / "a.zip", "a:b/1.png", "dog/1.png"))
    assert images.classes == ("a:b", "dog")


def test_linked_folders_come_with_advice(tmp_path):
    store = folder(tmp_path / "store", "cat/1.png", "dog/1.png")
    (tmp_path / "linked").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "linked" / name).symlink_to(store / name)
    check_refused(tmp_path / "linked", "give the folder that it leads to, or copy it here")
    half = folder(tmp_path / "half", "train/cat/1.png", "train/cat/2.png", "train/dog/1.png", "train/dog/2.png")
    (half / "valid").symlink_to(store)
    notes = " ".join(load_images(half).report.notes)
    assert "valid/ is a link to a folder" in notes
    assert "valid/ is not used, so that images to check on are drawn from the others instead" in notes


def test_a_folder_lists_the_pictures_that_loading_it_would_read(tmp_path):
    root = folder(tmp_path, "b.jfif", "a/c", "a/._c.png", ".ipynb_checkpoints/b-checkpoint.jpg", "__MACOSX/b.jpg")
    folder(root, "notes.txt", content=b"words")
    pictures, others = list_image_files(root)
    assert pictures == [root / "a" / "c", root / "b.jfif"]
    assert [other.name for other in others] == ["notes.txt"]


@pytest.mark.parametrize("length", [300, 5_000, 200_000])
def test_an_error_is_no_longer_than_a_thousand_characters_however_long_the_path(tmp_path, length):
    for name in ("x" * length, "/".join(["y" * 200] * (length // 200)), "many words " * (length // 10)):
        with pytest.raises(InputError) as caught:
            load_images(tmp_path / name)
        assert len(str(caught.value)) < 1_000
        assert str(caught.value).endswith("check the name.")
    long = InputError(f"The classes are {', '.join(map(str, range(length)))}. Give fewer.")
    assert len(str(long)) < 1_000 and str(long).endswith("Give fewer.")


# What cannot be opened at all, or is too much


def test_sources_that_are_none_are_refused(tmp_path):
    check_refused(tmp_path / "nowhere", "nowhere does not exist")
    check_refused(tmp_path / ("x" * 5000), "does not exist")
    check_refused(folder(tmp_path, "a.csv", content=b"a,b") / "a.csv", "a.csv", "holds no image")
    check_refused(folder(tmp_path, "a.zip", content=b"PK") / "a.zip", "a.zip is not a zip or tar.gz, or is damaged")
    check_refused(folder(tmp_path, "b.zip", content=b"") / "b.zip", "not a zip")
    os.mkfifo(tmp_path / "pipe.zip")
    check_refused(tmp_path / "pipe.zip", "neither a folder nor a zip or tar.gz")


def test_too_many_bytes_are_refused_while_they_are_unpacked(tmp_path, flowers, monkeypatch):
    archive = noisy(tmp_path / "a.zip")
    monkeypatch.setenv("HEADSWAP_MAX_MEGABYTES", "1")
    check_refused(archive, "a.zip holds more than", "take fewer")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(flowers)
    assert len(load_images(flowers)) == 6  # a hard link costs nothing


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
