"""What is taken along runs by itself: nothing of headswap, and it notices when it is not what was exported."""

import io
import json
import subprocess
import sys
import zipfile

import pytest
import yaml
from bundles import tiny_model
from drawings import SHAPES, load_shapes, shape

from headswap import InputError
from headswap.kits import onnx_kit, space

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
    onnx_kit(model, "shapes").write(home)
    return home


def alone(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, arguments)], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_the_code_checks_itself(folder):
    status, said, errors = alone(folder, "predict.py")
    assert status == 0, errors
    assert said.startswith("As exported: largest difference ")


@pytest.mark.parametrize("crop", ["centre", "fit"])
def test_the_code_answers_as_the_model_does(crop, tmp_path):
    model = tiny_model(sorted(SHAPES), crop=crop).eval()
    onnx_kit(model, "shapes").write(tmp_path)
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


def test_another_model_is_noticed(folder, tmp_path):
    onnx_kit(tiny_model(sorted(SHAPES), seed=1).eval(), "others").write(tmp_path)
    (tmp_path / "golden" / "golden.json").write_bytes((folder / "golden" / "golden.json").read_bytes())
    for image in (folder / "golden").glob("*.*g"):
        (tmp_path / "golden" / image.name).write_bytes(image.read_bytes())
    status, _, errors = alone(tmp_path, "predict.py")
    assert status and "this is not the model that was exported" in errors


def test_names_that_are_code_stay_text(tmp_path):
    names = ['"); import os; os._exit(7) #', "<script>alert(1)</script>", "{{value}}${value}"]
    kit = onnx_kit(tiny_model(names).eval(), 'x"; rm -rf /')
    kit.write(tmp_path)
    assert alone(tmp_path, "predict.py")[0] == 0
    assert json.loads(kit.files["model.json"])["classes"] == names
    for code in ("predict.py", "index.html"):
        assert not any(name in kit.files[code].decode() for name in names)


def test_a_space_brings_its_page_and_says_how_it_is_run(model):
    kit = space(model, "shapes: a --- title")
    _, front, body = kit.files["README.md"].decode().split("---\n", 2)
    told = yaml.safe_load(front)
    assert (told["title"], told["sdk"], told["app_file"]) == ("shapes: a --- title", "gradio", "app.py")
    assert told["sdk_version"].count(".") == 2 and told["python_version"]
    assert (
        "bars, boxes, dots" in body and {"app.py", "predict.py", "model.onnx", "requirements.txt"} <= kit.files.keys()
    )
    wanted = kit.files["requirements.txt"].decode()
    assert "onnxruntime>=" in wanted and "torch" not in wanted


def test_the_page_of_its_own_answers(model, tmp_path):
    space(model, "shapes").write(tmp_path)
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
    with zipfile.ZipFile(io.BytesIO(kit.zipped())) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == dict(kit.files)


def test_a_folder_that_cannot_be_made_is_said(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be made"):
        onnx_kit(model, "shapes").write(tmp_path / "file" / "below")
