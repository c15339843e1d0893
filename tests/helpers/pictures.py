"""Pictures drawn into folders and zips for the tests, and what loading them says. Knows no fixtures."""

import io
import random
import tempfile
import zipfile
from contextlib import contextmanager
from gc import collect
from unittest import mock

import pytest
from PIL import Image

from headswap.common.errors import InputError
from headswap.data.loading import load_files_with_progress, load_images

FLOWERS = ("roses/a.png", "roses/b.png", "tulips/a.png", "tulips/b.png")


def drawn(colour="red", size=(12, 10), ending="png"):
    """The bytes of a picture."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "JPEG" if ending == "jpg" else ending)
    return stream.getvalue()


def own(name, size=(12, 10)):
    """The bytes of a picture like no other: coloured squares, drawn by lot for each name."""
    squares = Image.frombytes("RGB", (4, 4), random.Random(ascii(name)).randbytes(48))
    stream = io.BytesIO()
    squares.resize(size, Image.Resampling.NEAREST).save(stream, "JPEG" if name.endswith(".jpg") else "PNG")
    return stream.getvalue()


def folder(root, *names, content=None):
    """A folder with a picture of its own under each of the names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(own(name) if content is None else content)
    return root


def zipped(path, *names):
    """A zip with a picture of its own under each of the names."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, own(name))
    return path


def reasons(images):
    """Why each file that was skipped was skipped."""
    return dict(images.report.skipped)


def check_refused(source, *words, **options):
    """Loading raises an error for a person that holds these words."""
    with pytest.raises(InputError) as caught:
        load_images(source, **options)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def load_files(files):
    """The images of files that lie anywhere, by pairs of relative name and path."""
    *_, images = load_files_with_progress([(name, path, "") for name, path in files])
    return images


@contextmanager
def nothing_left_in(temporary):
    """Let private files be made in this folder, and see that they are gone in the end."""
    with mock.patch.object(tempfile, "tempdir", str(temporary)):
        yield temporary
    if list(temporary.iterdir()):
        collect()
    assert list(temporary.iterdir()) == []
