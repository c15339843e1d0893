"""Nothing leaves this machine, and no file is written but where one was asked for: strace sees native code, too.

Python's own sockets are looked at in test_without_internet.py as well, on systems that have no strace.
"""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import tiny_model
from drawings import HEAD_ONLY, SHAPES, draw_folder, load_shapes
from tracing import traced

import headswap
from headswap.common.privacy import TELEMETRY_OPT_OUTS

pytestmark = pytest.mark.subprocess
ROOT = Path(__file__).parents[2]

# The library from the first import to what is taken along.
LESSON = """
import os, subprocess, sys
import headswap
from headswap import Phase, Plan
from headswap.common.privacy import TELEMETRY_OPT_OUTS
from headswap.features.inference import ENGINES

images = headswap.load_images("shapes")
plan = Plan((Phase(2, 0, 1e-2), Phase(1, 1, 1e-3, 1e-4)), views=1)
for engine in ENGINES:
    model = headswap.adapt("efficientnet_lite0", classes=images.classes)
    kept = headswap.fit(model, images, plan, engine=engine)
headswap.save(model, "kept.headswap")
model = headswap.load("kept.headswap")
print(model.predict("shapes/dots/0.png")[0][0])
headswap.evaluate(model, images)
headswap.space_kit(model, "shapes").write("space")  # with the model as ONNX
with open("script.py", "w", encoding="utf-8") as script:
    script.write(headswap.eject(model, images, "shapes"))

# What was given away sees to its own silence.
bare = {name: value for name, value in os.environ.items() if name not in TELEMETRY_OPT_OUTS}
for program in (["predict.py"], ["-c", SPACE], ["../script.py", "--help"]):
    subprocess.run([sys.executable, *program], cwd="space", env=bare, check=True)
"""
SPACE = """
import urllib.request
from app import demo
_, address, _ = demo.launch(ssr_mode=False, prevent_thread_lock=True, inbrowser=False, quiet=True)
assert urllib.request.urlopen(address).status == 200
demo.close()
"""

# The page as it is started, used as another program uses it, and ended as it is told to end.
PAGE = """
import os, runpy, shutil, signal, socket, threading, time, urllib.request, webbrowser

def use():
    for _ in range(1200):
        try:
            assert b"headswap" in urllib.request.urlopen(address).read()
            break
        except OSError:
            time.sleep(0.1)
    from gradio_client import Client, handle_file
    page = Client(address, verbose=False)
    archive = shutil.make_archive("shapes", "zip", "shapes")
    ticket, understood = page.predict(handle_file(archive), api_name="/load_images")
    *_, last = page.submit(ticket, plan="head only", api_name="/train")
    page.predict(ticket, handle_file("shapes/dots/0.png"), api_name="/predict")
    page.predict(ticket, api_name="/forget")
    page.close()
    print("used", understood["classes"], last["event"], flush=True)

def use_and_end():
    try:
        use()
    finally:
        os.kill(os.getpid(), signal.SIGTERM)

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
address = f"http://127.0.0.1:{port}/"
webbrowser.open = lambda *_, **__: True
os.environ["GRADIO_SERVER_PORT"] = str(port)
threading.Thread(target=use_and_end).start()
runpy.run_path(APP, run_name="__main__")
"""

# Gradio looks at matplotlib where somebody has installed it, and it asks for fonts and remembers them.
WITH_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Runs lines of Python under strace, in folders of their own; gives what they print and what they may not do."""
    folder, home, temporary = (tmp_path / name for name in ("work", "home", "temporary"))
    for made in (folder, home, temporary):
        made.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    caches = [home / ".config/matplotlib", home / ".cache/matplotlib", "fc-list"] if WITH_MATPLOTLIB else []

    def run(code):
        status, said, seen = traced(["-W", "ignore", "-c", code], folder, home, temporary, caches)
        assert status == 0, said[-3000:]
        return said, seen

    run.folder, run.home = folder, home
    return run


def test_the_library_and_what_it_gives_away_speak_to_nobody_and_write_what_was_asked_for(watched):
    draw_folder(watched.folder / "shapes", each=6)
    said, seen = watched(f"SPACE = {SPACE!r}\n{LESSON}")
    assert said.count("As exported: largest difference") == 2 and "--predict" in said
    assert {path.name for path in watched.folder.iterdir()} == {"shapes", "kept.headswap", "space", "script.py"}
    assert seen == []


def test_the_page_speaks_to_nobody_but_who_asks_it(watched):
    draw_folder(watched.folder / "shapes", each=6)
    said, seen = watched(f"APP = {str(ROOT / 'app.py')!r}\n{PAGE}")
    assert "used {'bars': 6, 'boxes': 6, 'dots': 6} Kept" in said
    assert seen == []


@pytest.mark.parametrize(
    "code, wanted",
    [
        ("socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 80))", "connect to 192.0.2.1 port 80"),
        (
            "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'', ('2001:db8::1', 80))",
            "sendto to 2001:db8::1 port 80",
        ),
        ("socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.53', 53))", "looks a name up: connect to port 53"),
        ("socket.getaddrinfo('nobody.invalid', 80)", "looks a name up: reads /etc/resolv.conf"),
        ("socket.socket().bind(('0.0.0.0', 0))", "bind to 0.0.0.0 port 0"),
        (
            "socket.socket(socket.AF_UNIX).connect(HOME + '/door')",
            "connect to another program on this machine, HOME/door",
        ),
        ("os.makedirs(HOME + '/.cache/somebody')", "mkdir HOME/.cache/somebody"),
        ("open(HOME + '/id', 'w')", "openat HOME/id"),
        ("os.chdir(HOME); os.mkdir('here')", "mkdir HOME/here"),
        ("os.fchdir(os.open(HOME, os.O_RDONLY)); os.mkdir('there')", "mkdir HOME/there"),
        ("open('a', 'w'); os.replace('a', HOME + '/b')", "rename HOME/b"),
        ("os.symlink('/etc', HOME + '/etc')", "symlink HOME/etc"),
        ("subprocess.run(['sh', '-c', 'echo > $HOME/shell'])", "openat HOME/shell"),
        ("subprocess.run(['sh', '-c', ':'])", "starts /usr/bin/sh"),
        ("threading.Thread(target=open, args=(HOME + '/thread', 'w')).start()", "openat HOME/thread"),
    ],
)
def test_whoever_broke_the_promise_would_be_seen(watched, code, wanted):
    listening = f"door = socket.socket(socket.AF_UNIX); door.bind('{watched.home}/door'); door.listen()"
    start = (
        f"import os, socket, subprocess, threading\nHOME = {str(watched.home)!r}\n{listening if 'door' in code else ''}"
    )
    _, seen = watched(f"{start}\ntry:\n    {code}\nexcept OSError:\n    pass")
    assert wanted.replace("HOME", str(watched.home)).replace("/usr/bin/sh", str(shutil.which("sh"))) in seen


def test_what_is_asked_for_here_is_let_pass(watched):
    code = """
import os, socket, subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as folder, open(folder + "/a", "w") as file:
    os.rename(file.name, "b")
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname())
subprocess.run([sys.executable, "-c", "open('c', 'w')"])
open(os.devnull, "w")
open("/etc/passwd")
"""
    assert watched(code) == ("", [])


def test_the_switch_is_what_silences_onnxruntime(watched):
    native = Path(importlib.util.find_spec("onnxruntime").origin).parent.glob("capi/onnxruntime_pybind11_state*.so")
    reports = any(b"ORT_DISABLE_TELEMETRY" in file.read_bytes() for file in native)  # not every build does
    _, loud = watched("import onnxruntime")
    assert bool(loud) == reports
    shutil.rmtree(watched.home / ".cache", ignore_errors=True)
    _, silenced = watched(
        f"import runpy; runpy.run_path({str(ROOT / 'headswap/common/privacy.py')!r}); import onnxruntime"
    )
    assert silenced == []


LOOK = """
import os
from headswap.common import privacy
assert os.environ.items() >= privacy.TELEMETRY_OPT_OUTS.items(), os.environ
from huggingface_hub import constants
assert constants.HF_HUB_DISABLE_TELEMETRY
"""


def test_what_was_set_for_another_program_does_not_win():
    loud = dict.fromkeys(TELEMETRY_OPT_OUTS, "0") | {"GRADIO_ANALYTICS_ENABLED": "True"}
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, env=os.environ | loud, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def imports_of(path):
    """What a file imports at its top, in order."""
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_package_imports_its_silence_first_and_that_imports_nothing_that_speaks():
    first, *_ = imports_of(ROOT / "headswap/__init__.py")
    assert first == "headswap.common.privacy"
    assert {name.split(".")[0] for name in imports_of(ROOT / "headswap/common/privacy.py")} <= sys.stdlib_module_names


def test_a_space_is_silent_before_it_borrows_a_gpu_from_a_package_that_imports_gradio():
    source = (ROOT / "app.py").read_text("utf-8")
    assert 0 < source.index('"privacy.py"') < source.index("import spaces") < source.index("from headswap")


@pytest.mark.parametrize(
    "name, listening",
    [
        ("predict.py", {"ORT_DISABLE_TELEMETRY"}),
        ("app.py.txt", {"ORT_DISABLE_TELEMETRY", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"}),
    ],
)
def test_what_is_given_away_says_the_same_before_it_imports_anything_that_listens(name, listening):
    lines = (ROOT / "headswap/export/templates" / name).read_text("utf-8").splitlines()
    loud = min(i for i, line in enumerate(lines) if re.match(r"(import|from) (numpy|onnxruntime|gradio)", line))
    said = dict(re.findall(r'^os\.environ\["(\w+)"\] = "(\w+)"', "\n".join(lines[:loud]), re.MULTILINE))
    assert said == {name: TELEMETRY_OPT_OUTS[name] for name in listening}


def test_a_script_that_asks_the_hub_for_weights_tells_it_nothing_else(tmp_path):
    model = tiny_model(sorted(SHAPES))
    images = load_shapes(tmp_path / "shapes", each=4)
    headswap.fit(model, images, HEAD_ONLY)
    line = f'os.environ["HF_HUB_DISABLE_TELEMETRY"] = "{TELEMETRY_OPT_OUTS["HF_HUB_DISABLE_TELEMETRY"]}"'
    assert line not in headswap.eject(model, images)  # random weights are asked of nobody
    model.pretrained = True
    script = headswap.eject(model, images)
    assert 0 < script.index("import os\n") < script.index(line) < script.index("import timm")
