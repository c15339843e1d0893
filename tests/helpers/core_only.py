"""A program that runs as if nothing but the core were installed, without an environment of its own.

The package itself is copied and not installed there, as on a Space.
"""

import json
import os
import subprocess
import sys

from project import PROJECT, ROOT, beyond_the_core

# Hidden as what is not installed is: find_spec gives None, and there is no metadata.
HIDE = """
import importlib.metadata, json, sys
from importlib.machinery import PathFinder
modules, distributions = map(set, json.loads(sys.argv.pop(1)))

class CoreFinder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in modules else super().find_spec(name, path, target)

    @staticmethod
    def find_distributions(*context):
        for found in PathFinder.find_distributions(*context):
            if found.metadata["Name"].lower().replace("_", "-").replace(".", "-") not in distributions:
                yield found

sys.meta_path[:] = [CoreFinder if finder is PathFinder else finder for finder in sys.meta_path]
"""


def run_in_the_core(code, folder, stdin=""):
    """Run lines of Python in a folder; what they print, after a status of 0."""
    modules, distributions = beyond_the_core()
    hidden = json.dumps([sorted(modules), sorted({PROJECT["name"], *distributions})])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HIDE + code, hidden],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "500"},
        input=stdin,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
