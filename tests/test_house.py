"""Files are short, public names are explained, and what is written around the code is true.

That packages import one way is for ``lint-imports`` to say, by the contracts in pyproject.toml.
"""

import ast
import importlib.metadata
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image

import headswap

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
GUIDES = [path.read_text("utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]  # without the API reference
WRITTEN = "\n".join([README, CONTRIBUTING, *GUIDES])
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")

# The packages


def sources():
    """Every file of the library and of the page."""
    return sorted((ROOT / "headswap").rglob("*.py"))


def imported(path):
    """Every module that a file imports anywhere in it, in full."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            yield node.module


# Nobody loses the way in a file or a function of more lines.
MOST_LINES, MOST_FUNCTION_LINES, MOST_MATCHED_BY_ORDER = 400, 60, 3


def parsed(path):
    return ast.parse(path.read_text("utf-8"))


def first_line(package):
    return ast.get_docstring(parsed(package / "__init__.py")).splitlines()[0]


def functions(path):
    return [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def layers(name):
    """The layers of a contract of pyproject.toml."""
    return ast.literal_eval(re.search(rf'name = "{name}".*?layers = (\[.*?\])', PYPROJECT, re.DOTALL)[1])


@pytest.mark.parametrize("path", sources(), ids=str)
def test_a_file_and_its_functions_are_short_enough_to_be_read(path):
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES
    long = {each.name for each in functions(path) if each.end_lineno - each.lineno + 1 > MOST_FUNCTION_LINES}
    assert long == set()


@pytest.mark.parametrize("path", [path for path in sources() if {"app", "steps", "panels"} & set(path.parts)], ids=str)
def test_no_handler_gives_more_values_than_can_be_matched_by_order(path):
    handlers = [each for each in functions(path) if not each.name.startswith(("_build", "build"))]
    given = {each.name: each.returns for each in handlers if isinstance(each.returns, ast.Subscript)}
    tuples = {name: of.slice for name, of in given.items() if ast.unparse(of.value) == "tuple"}
    several = {name: of.elts for name, of in tuples.items() if isinstance(of, ast.Tuple)}
    assert {name for name, elements in several.items() if len(elements) > MOST_MATCHED_BY_ORDER} == set()


def test_the_pictures_of_contributing_are_the_contracts():
    drawn = [block.split("\n") for block in re.findall(r"^```\n((?:[^`\n]+\n)+)```", CONTRIBUTING, re.MULTILINE)]
    drawn = [[line for line in block if line] for block in drawn]
    assert drawn == [layers("Packages import one way"), layers("The parts of the page import one way")]


@pytest.mark.parametrize("name", re.findall(r"[a-z]+", " ".join(layers("Packages import one way"))))
def test_every_package_says_in_contributing_what_it_does(name):
    assert f"| `{name}` | {first_line(ROOT / 'headswap' / name)} |" in CONTRIBUTING


@pytest.mark.parametrize("name", layers("The parts of the page import one way"))
def test_every_part_of_the_page_says_in_contributing_what_it_does(name):
    assert f"| `ui/{name}` | {first_line(ROOT / 'headswap' / 'ui' / name)} |" in CONTRIBUTING


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:\w+/)+\w*(?:\.py)?)`", CONTRIBUTING))))
def test_every_place_that_contributing_names_exists(path):
    assert (ROOT / path).exists() or (ROOT / "headswap" / path).exists()


FRESH = """
import sys, torch
before = torch.get_rng_state()
import headswap, headswap.cli.commands, headswap.ui
assert torch.equal(before, torch.get_rng_state()), "importing drew random numbers"
headswap.adapt, headswap.fit, headswap.save
assert not any(name.split(".")[0] == "gradio" for name in sys.modules), "importing imported Gradio"
"""


@pytest.mark.subprocess
def test_importing_the_library_is_quiet_and_imports_no_gradio():
    done = subprocess.run([sys.executable, "-W", "error", "-c", FRESH], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("path", sorted((ROOT / "headswap").rglob("*.py")), ids=lambda path: path.stem)
def test_every_file_says_what_it_does(path):
    docstring = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert docstring and docstring.splitlines()[0].endswith((".", ":", ";", ","))


# What a generator may hold while it tells something: whoever listens may take an hour, or never come back. Files and
# what is closed in the end are its own; a turn, a lock or a way to compute in this thread would be others' as well.
HARMLESS = {
    "closing", "suppress", "ExitStack",
    "open_archive", "_open_decompressed", "_ForwardOnlyStream", "tarfile.open",  # files
    "self.session", "self._open_session", "_raise_gradio_errors",
    "eval_mode", "learner.frozen_on_device",  # of a model of its own
}  # fmt: skip


def held_while_telling(source):
    """What stands open where a generator yields, as ``(function, context)``; what ``contextmanager`` makes is none."""
    for function in ast.walk(ast.parse(source)):
        decorators = [ast.unparse(each) for each in getattr(function, "decorator_list", ())]
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or "contextmanager" in decorators:
            continue
        for block in ast.walk(function):
            if isinstance(block, ast.With | ast.AsyncWith) and any(map(tells, block.body)):
                for item in block.items:
                    opened = item.context_expr
                    yield function.name, ast.unparse(opened.func if isinstance(opened, ast.Call) else opened)


def tells(statement):
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(statement))


@pytest.mark.parametrize("path", sorted((ROOT / "headswap").rglob("*.py")), ids=lambda path: path.stem)
def test_no_generator_tells_anything_while_others_wait_for_what_it_holds(path):
    source = path.read_text("utf-8")
    assert {(name, held) for name, held in held_while_telling(source) if held not in HARMLESS} == set()
    assert ".acquire(" not in source  # which no block would end


def test_a_generator_that_yields_inside_a_turn_would_be_noticed():
    wrong = "def f(turns):\n    for x in y:\n        with turns.turn(), a_lock:\n            yield from x\n"
    assert list(held_while_telling(wrong)) == [("f", "turns.turn"), ("f", "a_lock")]


# Public names


@pytest.mark.parametrize("name", headswap.__all__)
def test_every_public_name_exists_and_is_explained(name):
    documentation = inspect.getdoc(getattr(headswap, name)) or ""
    assert len(documentation.split()) > 5
    assert not documentation.startswith(f"{name}(")  # what a dataclass says of itself


@pytest.mark.parametrize("name", headswap.__all__)
def test_every_public_name_is_written_about(name):
    assert re.search(rf"\b{name}\b", WRITTEN), f"Nothing but the API reference says {name}."


def test_public_names_are_sorted_and_there_once():
    assert headswap.__all__ == sorted(set(headswap.__all__))


# The README


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:benchmarks|assets)/[\w./-]*\w", WRITTEN))))
def test_every_file_that_is_written_about_exists(path):
    assert (ROOT / path).exists()


def front_matter():
    """What a Hugging Face Space reads at the top of the README."""
    _, lines, _ = README.split("---\n", 2)
    return {key: value.strip("\"'") for key, value in re.findall(r"^(\w+): (.+)$", lines, re.MULTILINE)}


def test_a_space_can_start_the_page():
    space = front_matter()
    assert space["sdk"] == "gradio"
    assert (ROOT / space["app_file"]).is_file()
    assert requirements("requirements.txt")["gradio"].specifier.contains(space["sdk_version"])
    assert space["title"] == "headswap" and len(space["short_description"]) <= 60


def test_a_space_has_a_python_that_the_project_admits():
    admitted = re.search(r'^requires-python = "(.+)"$', PYPROJECT, re.MULTILINE)[1]
    assert SpecifierSet(admitted).contains(front_matter()["python_version"])
    assert sys.version_info >= (3, 10)


def test_the_readme_says_which_python_is_needed():
    oldest = re.search(r'^requires-python = ">=(.+)"$', PYPROJECT, re.MULTILINE)[1]
    assert f"Python {oldest} or newer" in README
    assert f'target-version = "py{oldest.replace(".", "")}"' in PYPROJECT


# Requirements and licence


def requirements(name):
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return {r.name: r for r in map(Requirement, filter(None, (line.split("#")[0].strip() for line in lines)))}


def test_a_space_pins_a_torch_that_the_requirements_admit():
    pinned, wanted = requirements("pre-requirements.txt"), requirements("requirements.txt")
    assert pinned.keys() == {"torch", "torchvision"}
    for name, pin in pinned.items():
        [only] = pin.specifier
        assert only.operator == "=="
        assert wanted[name].specifier.contains(only.version)


def test_a_space_pins_a_torch_and_a_torchvision_of_the_same_day():
    versions = {name: next(iter(pin.specifier)).version for name, pin in requirements("pre-requirements.txt").items()}
    torch_minor, torchvision_minor = (int(versions[name].split(".")[1]) for name in ("torch", "torchvision"))
    assert torchvision_minor == torch_minor + 15


@pytest.mark.parametrize("name", requirements("requirements.txt"))
def test_every_requirement_is_met_here(name):
    installed = importlib.metadata.version(name)
    assert requirements("requirements.txt")[name].specifier.contains(installed.split("+")[0])


def test_everything_that_is_imported_is_required():
    tops = {module.split(".")[0] for path in sources() for module in imported(path)}
    distributions = importlib.metadata.packages_distributions()  # Pillow is imported as PIL, and so on
    required = {name.lower().replace("_", "-") for name in requirements("requirements.txt")}
    names = {
        top: {name.lower().replace("_", "-") for name in distributions.get(top, ())}
        for top in tops - set(sys.stdlib_module_names) - {"headswap", "spaces", "_typeshed"}
    }
    assert [top for top, named in names.items() if not named & required] == []


def test_the_licence_is_the_same_everywhere():
    assert (ROOT / "LICENSE").read_text("utf-8").lstrip().startswith("Apache License")
    assert 'license = "Apache-2.0"' in PYPROJECT
    assert front_matter()["license"] == "apache-2.0"
    assert "Apache-2.0" in README.split("---\n", 2)[2]


def test_the_command_that_is_installed_exists():
    module, function = re.search(r'^headswap = "([\w.]+):(\w+)"$', PYPROJECT, re.MULTILINE).groups()
    assert callable(getattr(__import__(module, fromlist=[function]), function))


# The sample


def test_the_sample_is_small_and_its_classes_are_alike_in_number():
    classes = {folder.name: sorted(folder.iterdir()) for folder in (ROOT / "assets" / "leaves").iterdir()}
    assert {name: len(files) for name, files in classes.items()} == {"healthy": 30, "mildew": 30, "rust": 30}
    assert sum(file.stat().st_size for files in classes.values() for file in files) < 1_000_000


def test_no_two_pictures_of_the_sample_are_the_same():
    files = sorted((ROOT / "assets" / "leaves").rglob("*.jpg"))
    pictures = set()
    for file in files:
        with Image.open(file) as image:
            assert min(image.size) >= 128
            pictures.add(image.tobytes())
    assert len(pictures) == len(files) == 90


def test_the_endings_of_pictures_are_listed_once_in_the_whole_project():
    files = [
        path for path in (ROOT / "headswap").rglob("*") if path.suffix in (".py", ".js", ".html", ".txt", ".jinja")
    ]
    listing = [path.name for path in files if re.search(r"[\"']\.(jpeg|webp|tiff?)\b", path.read_text("utf-8"))]
    assert listing == ["sources.py"], "use IMAGE_EXTENSIONS of data/sources.py"
