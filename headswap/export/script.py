"""Renders the training of a Classifier as a standalone PyTorch script from a Jinja template.

The script holds only what this network, head and plan need, and nothing of headswap. Names of classes and files are
the user's text: they enter it as Python literals and in no other way.

Knows nothing of how a training runs: the template states it again, and ``benchmarks/ejected.py`` checks that both come
to the same result.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from headswap.common.errors import InputError
from headswap.data.dataset import LabelledImages
from headswap.export.python_source import MAX_LINE_LENGTH, format_assignment, to_python_literal
from headswap.export.script_network import ScriptNetwork
from headswap.export.script_variables import image_variables, plan_variables
from headswap.networks.classifier import Classifier

TEMPLATE_NAME = "script.py.jinja"


def eject(model: Classifier, images: LabelledImages | None = None, folder: str = "images") -> str:
    """Write the training of a model as one Python script that needs torch, torchvision and perhaps timm, not headswap.

    ``python script.py FOLDER`` trains as the model was trained, prints how many validation images are classified
    correctly and writes the weights beside the script; ``python script.py --predict a.jpg`` predicts with them.

    Args:
        model: a model that was trained here; the plan is in its ``record``.
        images: the images that it was trained on. The script then holds out the same of them; by default it draws its
            own.
        folder: where the script looks for the images, unless it is given another one.

    Returns:
        The source of the script.

    Raises:
        InputError: if the model was not trained, its backbone or head cannot be built by name, or the images have
            other classes.
    """
    if model.record is None:
        raise InputError("This model was not taught yet, so there is no training to write down; train it first.")
    network = ScriptNetwork(model)
    variables = {
        **plan_variables(model, network),
        **image_variables(model, images),
        **network.template_variables(),
        "folder": folder,
    }
    return _load_template().render(variables)


@lru_cache(maxsize=1)
def _load_template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates"), encoding="utf-8"),
        undefined=StrictUndefined,
        autoescape=False,  # the output is not HTML; the user's text goes through `literal` and `assignment`
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["literal"] = to_python_literal
    environment.globals["assignment"] = format_assignment
    environment.globals["max_line_length"] = MAX_LINE_LENGTH
    return environment.get_template(TEMPLATE_NAME)
