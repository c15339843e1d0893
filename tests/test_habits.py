"""What only strangers' machines read agrees with the code: workflows, templates, changelog, citation."""

import importlib
import inspect
import pkgutil
import re
import shlex

import pytest
import yaml
from project import EXTRAS, PROJECT, PYTHONS, ROOT

import headswap
from headswap.common.deprecation import get_old_names

YAML_FILES = sorted(
    path for pattern in (".github/**/*.yml", ".pre-commit-config.yaml", "CITATION.cff") for path in ROOT.glob(pattern)
)


def read(name):
    return yaml.safe_load((ROOT / name).read_text("utf-8"))


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_every_file_can_be_parsed(path):
    assert read(path)


def steps(workflow):
    """The commands of a workflow."""
    return "\n".join(step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])


# The gate


def test_the_gate_runs_on_every_python_of_the_classifiers_and_on_three_systems():
    matrix = read(".github/workflows/gate.yml")["jobs"]["gate"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_the_gate_is_what_contributing_says_and_once_a_week_without_the_lock():
    workflow = read(".github/workflows/gate.yml")
    assert {".ci/run", ".ci/weekly"} <= set(steps(workflow).split())
    assert workflow[True]["schedule"]  # YAML takes "on" for a truth value
    weekly = (ROOT / ".ci/weekly").read_text("utf-8")
    assert "HEADSWAP_WITHOUT_LOCK=1" in weekly and "HEADSWAP_WITHOUT_LOCK" in (ROOT / ".ci/run").read_text("utf-8")


@pytest.mark.parametrize("name", ["run", "weekly"])
def test_scripts_of_the_gate_can_be_run(name):
    path = ROOT / ".ci" / name
    assert path.read_text("utf-8").startswith("#!/usr/bin/env bash\n")
    assert "\r" not in path.read_bytes().decode()


@pytest.mark.parametrize("ending", ["pytest", "app.py"])
def test_the_gate_finds_the_commands_of_the_readme(ending):
    pattern = rf"^python3 -m venv .*{ending}$"
    assert f"'{pattern}'" in (ROOT / ".ci/run").read_text("utf-8")
    command = re.findall(pattern, (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)[0]
    [wanted] = [word for word in shlex.split(command) if word.startswith(".[")]
    assert set(wanted[2:-1].split(",")) == ({"all", "test"} if ending == "pytest" else {"all"}) <= set(EXTRAS)


def test_pre_commit_runs_what_is_installed_for_the_tests():
    programs = {hook["entry"].split()[0] for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]}
    assert programs <= {"ruff", "mypy", "lint-imports"}
    assert programs <= set(re.findall(r'"\$bin/([\w-]+)"', (ROOT / ".ci/run").read_text("utf-8")))


# Releases


def test_a_release_is_published_without_a_token_by_a_tag_that_is_the_version():
    workflow = read(".github/workflows/release.yml")
    assert workflow[True]["push"]["tags"] == ["v*"]
    publish = workflow["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"} and publish["needs"] == "build"
    assert "password" not in str(workflow) and "secrets" not in str(workflow)
    assert 'test "$GITHUB_REF_NAME" = "v$version"' in steps(workflow)
    assert "twine check --strict" in steps(workflow)


def test_who_cites_the_package_calls_it_by_its_name_and_licence():
    cited = read("CITATION.cff")
    assert (cited["title"], cited["license"]) == (PROJECT["name"], PROJECT["license"])
    assert cited["repository-code"] == PROJECT["urls"]["Repository"]


# The changelog


def renamed_classes():
    """The classes of the library with old names that warn."""
    for module in pkgutil.walk_packages(headswap.__path__, "headswap."):
        if module.name.startswith(("headswap.ui", "headswap.export.templates")) or module.name.endswith("__main__"):
            continue
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if cls.__module__ == module.name and get_old_names(cls):
                yield cls


def warned_of():
    """Each name that warns, as ``(old, new)``."""
    yield from headswap._NEW_NAMES.items()
    yield from ((old, new) for cls in renamed_classes() for new, old in get_old_names(cls).items())
    for path in (ROOT / "headswap").rglob("*.py"):
        for given in re.findall(r"@renamed_arguments\(([^)]*)\)", path.read_text("utf-8")):
            yield from re.findall(r'(\w+)="(\w+)"', given)


def test_the_changelog_names_everything_that_warns_and_nothing_that_does_not():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    written = set(re.findall(r"`([\w.]+)`: `(\w+)`", changelog))
    by_hand = {("heads.register", "register_head"), ("takes", "input_kind")}
    assert written == {*warned_of(), *by_hand}
