"""The core works alone, and what needs an extra says so in a sentence; what may be imported where is held here."""

import ast
import json
import sys

import pytest
from bundles import TINY
from core_only import run_in_the_core
from drawings import draw_folder
from photographs import HEIC
from project import (
    EXTRAS,
    PROJECT,
    ROOT,
    USERS_EXTRAS,
    core_distributions,
    distributions_of,
    modules_of,
    requirements_of,
)

from headswap.common.extras import MissingExtraError, needs_extra

SOURCES = sorted((ROOT / "headswap").rglob("*.py"))
PAGE_FOLDERS = tuple(ROOT / "headswap/ui" / part for part in ("app", "steps", "panels"))  # imported by ui.launch alone

# The library, then the command line, each command as if it were typed.
LESSON = """
import contextlib, io
import headswap, headswap.ui
from headswap.cli.commands import main
from headswap.common import devices

devices.use_all_cpus = lambda: None  # as in the other tests: threads of small networks wait for each other
images = headswap.load_images("shapes")
model = headswap.adapt(BACKBONE, classes=images.classes, pretrained=False)
headswap.fit(model, images, headswap.Plan((headswap.Phase(2, 0, 1e-2),), views=1))
headswap.save(model, "kept.headswap")
model = headswap.load("kept.headswap")
headswap.evaluate(model, images)
told = {"skipped": dict(images.report.skipped), "script": "import torch" in headswap.eject(model, images)}

def refused(call, *given, **named):
    try:
        call(*given, **named)
    except headswap.InputError as error:
        return str(error)

told["engine"] = refused(headswap.fit, model, images, engine="onnxruntime")
told["onnx"] = refused(headswap.export_onnx, model, "model.onnx")
told["page"] = refused(headswap.ui.launch)

def typed(*arguments):
    sys.argv[1:] = arguments
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue()

told["commands"] = {line: typed(*line.split()) for line in sys.stdin.read().splitlines()}
told["imported"] = sorted({name.partition(".")[0] for name in sys.modules} & modules)
print(json.dumps(told))
"""
WORKS = (
    "--help",
    "--version",
    "heads",
    "backbones",
    "check shapes",
    "train shapes --head lda --out typed.headswap",
    "predict kept.headswap shapes/dots/0.png",
    "evaluate kept.headswap shapes",
    "export kept.headswap --script --images shapes --out scripts",
)
REFUSED = {
    "app": "page",
    "app --lan": "page",
    "export kept.headswap --onnx": "onnx",
    "export kept.headswap --space": "page",
    "push kept.headswap somebody/shapes": "onnx",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the lesson found where only the core is installed."""
    folder = tmp_path_factory.mktemp("core")
    draw_folder(folder / "shapes", each=5)
    (folder / "shapes/dots/phone.heic").write_bytes(HEIC)
    return json.loads(
        run_in_the_core(f"BACKBONE = {TINY!r}{LESSON}", folder, stdin="\n".join((*WORKS, *REFUSED))).splitlines()[-1]
    )


@pytest.mark.subprocess
def test_the_core_loads_learns_saves_and_imports_nothing_else(told):
    assert told["script"]
    assert told["imported"] == []


@pytest.mark.subprocess
@pytest.mark.parametrize("command", WORKS)
def test_a_command_of_the_core_works_without_extras(told, command):
    status, out, err = told["commands"][command]
    assert (status or 0) == 0 and "Traceback" not in err
    assert out


@pytest.mark.subprocess
@pytest.mark.parametrize("command", REFUSED)
def test_a_command_that_needs_an_extra_says_which_in_a_line(told, command):
    status, out, err = told["commands"][command]
    assert (status, out) == (1, "")
    [line] = err.splitlines()
    assert line.endswith(
        f'which is not installed; run pip install "headswap[{REFUSED[command]}]" where headswap is installed.'
    )


@pytest.mark.subprocess
@pytest.mark.parametrize("feature, extra", [("engine", "onnx"), ("onnx", "onnx"), ("page", "page")])
def test_python_says_it_too(told, feature, extra):
    command = f'pip install "headswap[{extra}]" where headswap is installed.'
    assert f'needs the extra "{extra}", which is not installed; run {command}' in told[feature]


@pytest.mark.subprocess
def test_a_heic_photograph_is_reported_and_the_others_are_read(told):
    [(name, reason)] = told["skipped"].items()
    assert name.endswith("phone.heic")
    assert 'HEIC needs pip install "headswap[heic]", or export it as JPEG' in reason


def test_a_library_that_is_broken_says_how():
    words = r'cannot be imported \(no libheif\); run pip install --upgrade "headswap\[heic\]"'
    with pytest.raises(MissingExtraError, match=words), needs_extra("heic", "HEIC"):
        raise ImportError("no libheif", name="_pi_heif")


def test_a_fault_of_the_package_itself_is_no_missing_extra():
    with pytest.raises(ModuleNotFoundError, match="nowhere"), needs_extra("page", "The page"):
        raise ModuleNotFoundError("nowhere", name="headswap.nowhere")


# Who may import what


def third_party_imports(path):
    """The top-level module of each import that runs, the extras that stand around it, and whether it is at the top."""
    modules_here = sys.stdlib_module_names | {"headswap", "spaces"}  # spaces is where a Space has ZeroGPU

    def visit(node, extras, at_the_top):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
            extras = [*extras, *(c.args[0].value for c in calls if ast.unparse(c.func) == "needs_extra")]
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((name.split(".")[0], extras, at_the_top) for name in names)
        at_the_top = at_the_top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, extras, at_the_top)

    return [each for each in visit(ast.parse(path.read_text("utf-8")), [], True) if each[0] not in modules_here]


CORE_MODULES = modules_of(distributions_of("core"))
EXTRA_OF = {module: extra for extra in USERS_EXTRAS for module in modules_of(distributions_of(extra))}
OF_THE_PAGE = [path for path in SOURCES if set(PAGE_FOLDERS) & set(path.parents)]
OF_THE_CORE = [path for path in SOURCES if path not in OF_THE_PAGE and "templates" not in path.parts]


@pytest.mark.parametrize("path", OF_THE_CORE, ids=lambda path: path.relative_to(ROOT / "headswap").as_posix())
def test_the_core_imports_what_it_asks_for_and_an_extra_only_where_it_says_so(path):
    for module, extras, at_the_top in third_party_imports(path):
        if module not in CORE_MODULES:
            assert module in EXTRA_OF, f"{path.name} imports {module}, which pyproject.toml does not name."
            assert EXTRA_OF[module] in extras and not at_the_top, f"{path.name} imports {module} without needs_extra."


@pytest.mark.parametrize("path", OF_THE_PAGE, ids=lambda path: path.stem)
def test_the_page_imports_what_the_core_and_its_own_extra_ask_for(path):
    for module, extras, _ in third_party_imports(path):
        assert module in CORE_MODULES or EXTRA_OF[module] in ("page", *extras)


def test_every_extra_is_of_use_and_none_repeats_the_core():
    used = {module for path in SOURCES for module, _, _ in third_party_imports(path)}
    for extra in USERS_EXTRAS:
        for distribution in distributions_of(extra):
            assert modules_of({distribution}) & used, f"Nobody imports {distribution}."
        assert not distributions_of(extra) & core_distributions(), f"{extra} asks for what the core brings anyway."


def test_all_is_every_extra_that_is_not_for_developers():
    assert set(EXTRAS) - set(USERS_EXTRAS) - {"all"} <= {"test", "docs"}


# The list that a Space installs


def test_the_requirements_of_a_space_are_the_core_and_all_extras():
    lines = [line for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    assert sorted(lines) == sorted(requirements_of("core", "all"))


@pytest.mark.parametrize("line", [*requirements_of("core", "all")])
def test_every_bound_says_why(line):
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    reasons = [each.partition("#")[2].strip() for each in pyproject if each.strip().startswith(f'"{line}"')]
    assert (all(reasons) and len(reasons) == 1) or "==" in line  # the weights: all three have one comment


@pytest.mark.subprocess
def test_where_the_repository_was_only_copied_as_on_a_space_it_knows_its_version(told):
    assert told["commands"]["--version"][1] == f"headswap {PROJECT['version']}\n"
