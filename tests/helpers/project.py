"""What pyproject.toml says of the package, and which modules and distributions belong to the core and to each extra."""

import importlib.metadata
import re
from functools import lru_cache
from pathlib import Path

from packaging.requirements import Requirement

try:
    import tomllib
except ModuleNotFoundError:  # before Python 3.11, where pytest brings it
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
PROJECT = tomllib.loads(PYPROJECT)["project"]
EXTRAS = PROJECT["optional-dependencies"]
USERS_EXTRAS = tuple(sorted(Requirement(EXTRAS["all"][0]).extras))  # what "all" installs
PYTHONS = [found[1] for each in PROJECT["classifiers"] if (found := re.search(r":: (3\.\d+)$", each))]


def normalized(name):
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements_of(*groups):
    """The requirements of the core ("core") and of extras as they are written, with what they refer to put in."""
    for group in groups:
        for line in PROJECT["dependencies"] if group == "core" else EXTRAS[group]:
            requirement = Requirement(line)
            if requirement.name == PROJECT["name"]:
                yield from requirements_of(*sorted(requirement.extras))
            else:
                yield line


def distributions_of(*groups):
    """The normalized names of what the groups ask for."""
    return {normalized(Requirement(line).name) for line in requirements_of(*groups)}


@lru_cache(maxsize=1)
def core_distributions():
    """All that ``pip install headswap`` brings, by what is installed here: the core, and what it asks for in turn."""
    pending, found = [Requirement(line) for line in requirements_of("core")], set()
    while pending:
        requirement = pending.pop()
        each = normalized(requirement.name), frozenset(requirement.extras)
        if each in found or not _is_installed(requirement.name):
            continue
        found.add(each)
        for needed in map(Requirement, importlib.metadata.requires(requirement.name) or ()):
            if not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in ("", *each[1])):
                pending.append(needed)
    return {name for name, _ in found}


def _is_installed(name):
    try:
        return bool(importlib.metadata.distribution(name))
    except importlib.metadata.PackageNotFoundError:
        return False


@lru_cache(maxsize=1)
def installed_modules():
    """The normalized names of the distributions that each top-level module comes with."""
    found = importlib.metadata.packages_distributions().items()
    return {module: set(map(normalized, names)) for module, names in found}


def modules_of(distributions):
    """The top-level modules that come with these distributions."""
    return {module for module, names in installed_modules().items() if distributions & names}


def beyond_the_core():
    """The modules and the distributions that are installed here, but not by ``pip install headswap``."""
    core = core_distributions() | {PROJECT["name"], "pip"}
    distributions = {normalized(each.metadata["Name"]) for each in importlib.metadata.distributions()} - core
    return set(installed_modules()) - modules_of(core), distributions
