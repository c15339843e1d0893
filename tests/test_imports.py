"""What is asked for is answered without waiting for what it does not need."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import headswap
from headswap.cli.heads_command import read_built_in_heads
from headswap.networks.head_registry import describe_head, get_head_options
from headswap.networks.heads import BUILT_IN_HEADS

ROOT = Path(__file__).parents[1]
SLOW = {
    "gradio",
    "huggingface_hub",
    "matplotlib",
    "numpy",
    "onnx",
    "pandas",
    "PIL",
    "scipy",
    "sklearn",
}  # Typer takes pydantic
SLOW |= {"timm", "torch", "torchvision"}

IMPORTED = """
import json, sys
sys.argv[1:] = {arguments}
try:
    {code}
finally:
    print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def imported(code, arguments=()):
    """The top-level modules that a new process has imported in the end."""
    program = IMPORTED.format(code=code, arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.subprocess
def test_importing_the_package_imports_nothing_slow():
    assert not imported("import headswap") & SLOW


@pytest.mark.subprocess
@pytest.mark.parametrize("line", ["--help", "--version", "heads"])
def test_the_command_line_answers_without_torch(line):
    assert not imported("from headswap.cli.commands import main; main()", [line]) & SLOW


def test_the_heads_are_read_from_their_source_as_they_are_registered():
    registered = [(name, describe_head(name), get_head_options(name)) for name in BUILT_IN_HEADS]
    assert read_built_in_heads() == registered


def test_every_public_name_is_imported_from_where_type_checkers_look():
    tree = ast.parse(Path(headswap.__file__).read_text("utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    shown = {alias.name: node.module for node in block.body for alias in node.names}
    assert shown == dict(headswap.PUBLIC_MODULES)
    assert set(headswap.__all__) == set(shown)
    assert set(dir(headswap)) >= set(shown)
