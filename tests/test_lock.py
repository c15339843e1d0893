"""constraints.txt, which the gate installs from, has a pin for each requirement, on every Python and system."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from project import EXTRAS, PROJECT, PYTHONS, ROOT, normalized, requirements_of

LINES = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
PINS = [Requirement(line.partition("#")[0]) for line in LINES if not line.startswith("#")]
SYSTEMS = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}


def environments():
    """What markers ask for: each Python that the classifiers name, on each system, with its last release."""
    for python in PYTHONS:
        for system, platform in SYSTEMS.items():
            yield {
                "python_version": python,
                "python_full_version": f"{python}.99",
                "platform_system": system,
                "sys_platform": platform,
                "os_name": "nt" if system == "Windows" else "posix",
                "platform_machine": "arm64" if system == "Darwin" else "x86_64",
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
            }


def pinned(environment):
    """The pins that hold in an environment, by name."""
    pins = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate(environment):
            assert normalized(pin.name) not in pins, f"{pin.name} is pinned twice."
            pins[normalized(pin.name)] = pin
    return pins


@pytest.mark.parametrize(
    "environment", list(environments()), ids=lambda each: f"{each['python_version']}-{each['sys_platform']}"
)
def test_every_requirement_is_satisfied_by_one_pin(environment):
    pins = pinned(environment)
    for requirement in map(Requirement, requirements_of("core", *EXTRAS)):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            [pin] = pins[normalized(requirement.name)].specifier
            assert pin.operator == "=="
            assert requirement.specifier.contains(pin.version), (
                f"{requirement} is locked to {pin}; see CONTRIBUTING.md."
            )


def test_the_package_does_not_pin_itself():
    assert PROJECT["name"] not in {pin.name for pin in PINS}


def test_the_lock_says_by_which_command_it_was_made_and_contributing_says_the_same():
    [command] = re.findall(r"^#    (uv pip compile .*)$", "\n".join(LINES), re.MULTILINE)
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f"--python-version {oldest} " in command and "--all-extras" in command and "--universal" in command
    assert command in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_the_classifiers_begin_where_python_is_required_from():
    required = SpecifierSet(PROJECT["requires-python"])
    assert all(required.contains(f"{python}.0") for python in PYTHONS)
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
