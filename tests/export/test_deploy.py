"""What is taken along runs by itself: nothing of headswap, and it notices when it is not what was exported."""

import io
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import yaml
from bundles import tiny_model
from deep import blobs, deep_files, png
from drawings import SHAPES, load_shapes, shape
from PIL import Image

from headswap import InputError
from headswap.data.decoding import read_pixels
from headswap.export.deploy import onnx_kit, space_kit

# As if headswap and torch were not installed; Gradio, which takes seconds, is played.
ALONE = """
import runpy, sys, types
for name in ("headswap", "torch", "torchvision", "timm"):
    sys.modules[name] = None
sys.path.insert(0, ".")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def model():
    return tiny_model(sorted(SHAPES)).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """An ONNX kit on disk; not to be written to."""
    home = tmp_path_factory.mktemp("kit")
    onnx_kit(model, "shapes").write_to(home)
    return home


def alone(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, arguments)], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.subprocess
def test_the_code_checks_itself(folder):
    status, said, errors = alone(folder, "predict.py")
    assert status == 0, errors
    assert said.startswith("As exported: largest difference ")


@pytest.mark.subprocess
@pytest.mark.parametrize("crop", ["centre", "fit"])
def test_the_code_answers_as_the_model_does(crop, tmp_path):
    model = tiny_model(sorted(SHAPES), crop=crop).eval()
    onnx_kit(model, "shapes").write_to(tmp_path)
    wide, clear = shape("bars", 3, (300, 180)), shape("dots", 5).convert("RGBA")
    clear.putalpha(120)
    for name, picture in {"wide.png": wide, "clear.png": clear, "turned.jpg": wide}.items():
        exif = picture.getexif()
        exif[274] = 6 if name == "turned.jpg" else 1
        picture.save(tmp_path / name, exif=exif)
    code = (
        "import json, predict; print(json.dumps([predict.predict(n) for n in ('wide.png', 'clear.png', 'turned.jpg')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    for name, told in zip(("wide.png", "clear.png", "turned.jpg"), json.loads(done.stdout), strict=True):
        assert dict(told) == pytest.approx(dict(model.predict(tmp_path / name)), abs=2e-3)


def squares_of(folder, files):
    """What the folder's own code makes of files."""
    code = "import sys, numpy, predict; numpy.save('squares.npy', [predict.preprocess(name) for name in sys.argv[1:]])"
    command = [sys.executable, "-c", code, *map(str, files)]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return np.load(folder / "squares.npy").astype(int)


def seen(model, file):
    """What the model itself sees of a file: ``[size, size, 3]``."""
    wanted = model.preprocess
    return (
        wanted.crop_to_square(read_pixels(file, wanted.resize, wanted.interpolation)).movedim(0, -1).numpy().astype(int)
    )


@pytest.mark.subprocess
def test_the_code_sees_pictures_of_16_bits_as_the_model_does(model, tmp_path):
    onnx_kit(model, "shapes").write_to(tmp_path)
    files = deep_files(tmp_path / "deep")
    for file, square in zip(files, squares_of(tmp_path, files), strict=True):
        assert np.abs(square - seen(model, file)).max() <= 1, file.name
        assert square.std() > 20  # neither black nor white


@pytest.mark.subprocess
def test_code_that_would_cut_16_bits_off_does_not_pass_its_own_check(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    code = (tmp_path / "predict.py").read_text("utf-8")
    (tmp_path / "predict.py").write_text(code.replace('image.mode.startswith(("I", "F"))', "False"), "utf-8")
    status, _, errors = alone(tmp_path, "predict.py")
    assert status and "of 255; it is decoded otherwise" in errors


@pytest.mark.subprocess
def test_a_file_that_is_no_picture_is_said(folder, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "nan.tif")
    for name in ("notes.png", "nan.tif"):
        status, _, errors = alone(folder, "predict.py", tmp_path / name)
        assert status == 1 and "cannot be read as a picture" in errors and "Traceback" not in errors


# In a browser

# In place of onnxruntime-web, which comes from the internet: it always answers the same, and remembers the pixels.
PLAYED = """
window.asked = [];
window.ort = {
  Tensor: class { constructor(kind, data) { this.data = data; } },
  InferenceSession: { create: async () => ({ run: async ({ pixels }) => {
    asked.push(Array.from(pixels.data));
    return { probabilities: { data: [0.2, 0.5, 0.3] } };
  } }) },
};
"""


@pytest.fixture
def page(browser, folder):
    """The kit's page, once it has checked itself."""
    page = browser.new_page()
    page.route("http://localhost/**", lambda route: route.fulfill(path=folder / route.request.url.split("/", 3)[3]))
    page.route("**/ort.min.js", lambda route: route.fulfill(body=PLAYED, content_type="text/javascript"))
    page.goto("http://localhost/index.html")
    page.wait_for_function("document.getElementById('check').textContent.includes('exported')")
    yield page
    page.close()


@pytest.mark.browser
def test_the_page_sees_the_golden_images_and_pictures_of_16_bits_as_the_model_does(model, folder, page, tmp_path):
    size = model.preprocess.size
    asked = np.array(page.evaluate("asked")).reshape(-1, 2, size, size, 3)  # exact, and decoded
    assert len(asked) == 5
    for i, (exact, decoded) in enumerate(asked, 1):
        assert np.array_equal(exact, np.asarray(Image.open(folder / "golden" / f"{i}.png")))
        assert np.abs(exact - decoded).mean() < 12
    deep = [file for file in deep_files(tmp_path / "deep") if file.suffix == ".png"]
    assert len(deep) > 4
    for file in deep:
        page.set_input_files("#file", file)
        page.wait_for_function("document.querySelectorAll('#answers li').length === 3")
        shown = np.array(page.evaluate("asked.at(-1)")).reshape(size, size, 3)
        assert np.abs(shown - seen(model, file)).mean() < 6, file.name


@pytest.mark.browser
def test_the_page_says_what_to_do_with_what_it_cannot_read(page, tmp_path):
    files = deep_files(tmp_path / "deep")
    Image.fromarray(blobs()[..., 0]).save(tmp_path / "deep" / "a.ppm.pgm")
    interlaced = bytearray(png(blobs()))
    interlaced[28] = 1
    (tmp_path / "interlaced.png").write_bytes(bytes(interlaced))
    for file, word in (
        (next(file for file in files if file.name == "grey.tif"), "Save it as PNG, which keeps 16 bits"),
        (tmp_path / "deep" / "a.ppm.pgm", "Save it as JPEG or PNG"),
        (tmp_path / "interlaced.png", "interlaced"),
    ):
        page.set_input_files("#file", file)
        page.wait_for_function(f"document.getElementById('problem').textContent.includes('{word}')")
        assert page.locator("#answers li").count() == 0


@pytest.mark.subprocess
def test_another_model_is_noticed(folder, tmp_path):
    onnx_kit(tiny_model(sorted(SHAPES), seed=1).eval(), "others").write_to(tmp_path)
    (tmp_path / "golden" / "golden.json").write_bytes((folder / "golden" / "golden.json").read_bytes())
    for image in (folder / "golden").glob("*.*g"):
        (tmp_path / "golden" / image.name).write_bytes(image.read_bytes())
    status, _, errors = alone(tmp_path, "predict.py")
    assert status and "this is not the model that was exported" in errors


@pytest.mark.subprocess
def test_names_that_are_code_stay_text(tmp_path):
    names = ['"); import os; os._exit(7) #', "<script>alert(1)</script>", "{{value}}${value}"]
    kit = onnx_kit(tiny_model(names).eval(), 'x"; rm -rf /')
    kit.write_to(tmp_path)
    assert alone(tmp_path, "predict.py")[0] == 0
    assert json.loads(kit.files["model.json"])["classes"] == names
    for code in ("predict.py", "index.html"):
        assert not any(name in kit.files[code].decode() for name in names)


def test_a_space_brings_its_page_and_says_how_it_is_run(model):
    kit = space_kit(model, "shapes: a --- title")
    _, front, body = kit.files["README.md"].decode().split("---\n", 2)
    told = yaml.safe_load(front)
    assert (told["title"], told["sdk"], told["app_file"]) == ("shapes: a --- title", "gradio", "app.py")
    assert told["sdk_version"].count(".") == 2 and told["python_version"]
    assert (
        "bars, boxes, dots" in body and {"app.py", "predict.py", "model.onnx", "requirements.txt"} <= kit.files.keys()
    )
    wanted = kit.files["requirements.txt"].decode()
    assert "onnxruntime>=" in wanted and "torch" not in wanted


@pytest.mark.subprocess
def test_the_page_of_its_own_answers(model, tmp_path):
    space_kit(model, "shapes").write_to(tmp_path)
    shape("dots", 4).save(tmp_path / "new.png")
    code = (
        "import sys; sys.modules['torch'] = sys.modules['headswap'] = None; import app; "
        "from gradio_client import Client, handle_file; "
        "_, url, _ = app.demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False); "
        "print(Client(url, verbose=False).predict(handle_file('new.png'), api_name='/predict')['label'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == model.predict(tmp_path / "new.png")[0][0]


def test_nobodys_images_go_along_unless_they_are_given(model, tmp_path):
    images = load_shapes(tmp_path / "shapes")
    drawn, own = onnx_kit(model, "shapes"), onnx_kit(model, "shapes", images)
    assert drawn.files["golden/1.jpg"] != own.files["golden/1.jpg"]
    assert onnx_kit(model, "shapes").files["golden/1.jpg"] == drawn.files["golden/1.jpg"]


def test_the_zip_holds_the_same(model):
    kit = onnx_kit(model, "shapes")
    with zipfile.ZipFile(io.BytesIO(kit.to_zip())) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == dict(kit.files)


def test_a_folder_that_cannot_be_made_is_said(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be made"):
        onnx_kit(model, "shapes").write_to(tmp_path / "file" / "below")
