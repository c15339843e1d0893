"""Every form is registered, written into a folder and offered everywhere, a stranger's as well as ours."""

import pytest
from bundles import in_new_process, tiny_model
from drawings import SHAPES

import headswap
from headswap import ExportForm, ExportInputs, InputError, register_export
from headswap.export import forms
from headswap.export.forms import EXPORT_FORMS
from headswap.training.record import EpochRecord, PhaseRecord, Record, ValidationResult


@pytest.fixture(scope="module")
def model():
    """A model with a past, which nobody has taught."""
    model = tiny_model(sorted(SHAPES)).eval()
    plan, result = headswap.Plan.from_name("head only"), ValidationResult(0.75, "accuracy", 3, 4)
    counts, epochs = dict.fromkeys(model.classes, 8), (EpochRecord(1.0, 0.5, 1.0, 0.5),)
    model.record = Record(plan, counts, 19, epochs, (PhaseRecord(1, ()),), "best", 1, result, None, 1.0)
    return model


@pytest.fixture
def registry(monkeypatch):
    """Whatever is registered is forgotten in the end."""
    monkeypatch.setattr(forms, "_EXPORT_FORMS", dict(forms._EXPORT_FORMS))
    return forms._EXPORT_FORMS


def write_names(model, path, inputs):
    """One class a line."""
    path.write_text("\n".join(model.classes), "utf-8")
    return f"{inputs.title} was written."


NAMES = ExportForm("names", "Names", "The names of the classes.", "As a text.", write_names, suffix=".txt")


def test_ours_are_registered_with_it():
    assert {"onnx", "program", "script", "space"} <= set(EXPORT_FORMS)


@pytest.mark.parametrize("name", EXPORT_FORMS)
def test_every_form_is_written_where_it_says_and_explains_itself(model, name, tmp_path):
    form = EXPORT_FORMS[name]
    path, parity = form.export(model, tmp_path / "new" / "folder", ExportInputs("shapes"))
    assert path == form.path_in(tmp_path / "new" / "folder", "shapes") and [*path.parent.iterdir()] == [path]
    assert path.is_file() if form.suffix else (path / "README.md").is_file()
    assert "was loaded again" in parity or (not parity and form.requirements)
    assert form.title and form.description.endswith(".") and form.help.endswith(".")
    assert form.location_message.format(path=path).count(str(path)) == bool(form.location_message)


def test_a_folder_that_cannot_be_made_is_said(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"The folder .*file.below cannot be made"):
        EXPORT_FORMS["program"].export(model, tmp_path / "file" / "below", ExportInputs("shapes"))


def test_what_cannot_be_written_leaves_no_folder_behind(model, tmp_path):
    def refuse(*_):
        raise InputError("ONNX is missing.")

    form = ExportForm("none", "None", "Nothing.", "As nothing.", refuse)
    with pytest.raises(InputError, match="ONNX is missing"):
        form.export(model, tmp_path / "new", ExportInputs("shapes"))
    assert not list(tmp_path.iterdir())


def test_a_form_of_ones_own_is_one_more(registry, model, tmp_path):
    register_export(NAMES)
    path, parity = registry["names"].export(model, tmp_path, ExportInputs("shapes"))
    assert path.name == "shapes.txt" and path.read_text("utf-8").split() == sorted(SHAPES)
    assert parity == "shapes was written."


@pytest.mark.parametrize("name", ["onnx", "two words", "", "a-b"])
def test_a_name_that_is_taken_or_none_is_refused(registry, name):
    with pytest.raises(ValueError, match="A form's name is a word of its own"):
        register_export(ExportForm(name, "", "", "", write_names))
    assert set(registry) == set(EXPORT_FORMS)


STRANGER = """
import sys
from pathlib import Path
import headswap

def write(model, path, inputs):
    path.mkdir()
    (path / "names.txt").write_text(" ".join(model.classes))
    return "Nothing was compared."

headswap.register_export(headswap.ExportForm("my_names", "Names", "Names in a folder.", "As names.", write))
from headswap.cli.commands import cli

cli(["export", "--help"], standalone_mode=False)
cli(["export", *sys.argv[1:], "--my-names"], standalone_mode=False)
"""


@pytest.mark.subprocess
def test_a_form_of_ones_own_is_a_flag_of_the_command_line_and_a_download_of_the_page(model, tmp_path):
    headswap.save(model, tmp_path / "shapes.headswap")
    page = "\nfrom headswap.ui.steps.keep import EXPORT_FORMATS\nprint(*EXPORT_FORMATS)"
    said = in_new_process(STRANGER + page, tmp_path / "shapes.headswap")
    assert "--my-names" in said and "As names." in said
    assert (tmp_path / "shapes" / "my_names" / "names.txt").read_text() == "bars boxes dots"
    shown = "".join(said.split())  # the terminal breaks lines
    assert f"Nothingwascompared.Itisin{tmp_path / 'shapes' / 'my_names'}." in shown
    assert said.splitlines()[-1].split() == ["headswap", *EXPORT_FORMS, "my_names"]
