"""What CONTRIBUTING.md shows as an example works when it is written down as it stands there."""

import contextlib
import io
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

import headswap
from headswap.cli.export_flags import with_export_flags
from headswap.data import checks
from headswap.export import forms
from headswap.networks import head_registry
from headswap.training.record import SELECTION_BIAS_NOTE

ROOT = Path(__file__).parents[1]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The names that the examples leave behind, and the lines that each of them prints; what they register is taken
    back in the end."""
    home = tmp_path_factory.mktemp("contributing")
    shutil.copytree(ROOT / "assets/leaves", home / "assets/leaves")
    names, printed = {}, []
    with pytest.MonkeyPatch.context() as patch:
        for registry in (head_registry._HEADS, checks._CHECKS, forms._EXPORT_FORMS):
            for name in (*registry, "cosine", "oblong", "labels"):
                if name in registry:
                    patch.setitem(registry, name, registry[name])
                else:
                    patch.delitem(registry, name, raising=False)
        patch.chdir(home)
        for code in EXAMPLES:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(code, "CONTRIBUTING.md", "exec"), names)
            printed.append(out.getvalue().strip())
        yield names, printed, home
        for registry, name in (
            (head_registry._HEADS, "cosine"),
            (checks._CHECKS, "oblong"),
            (forms._EXPORT_FORMS, "labels"),
        ):
            del registry[name]


def test_there_is_an_example_of_each_kind():
    assert len(EXAMPLES) == 5


def test_the_head_learns_and_is_described_by_its_docstring(example):
    names, [described, *_], _ = example
    assert described == "A weight for each feature and class, compared by angle alone."
    model = headswap.adapt("efficientnet_lite0", classes=names["images"].classes, head="cosine")
    plan = headswap.Plan((headswap.Phase(20, 0, 5e-2),), views=1)
    assert headswap.fit(model, names["images"], plan).correct > 9  # of 18, in three classes


def test_the_finding_is_found(example):
    _, [_, found, *_], home = example
    assert found == "[]"  # nothing of the sample is
    oblong = home / "assets/leaves/rust/rust-01.jpg"
    with Image.open(oblong) as image:
        image.resize((300, 100)).save(oblong)
    [finding] = [each for each in headswap.check(headswap.load_images(home / "assets/leaves")) if each.kind == "oblong"]
    assert str(finding) == "1 image is oblong. A crop loses half of them."


def test_the_export_is_written_and_the_command_line_has_a_flag_for_it(example):
    names, _, home = example
    path, sentence = forms.EXPORT_FORMS["labels"].export(names["model"], home, names["ExportInputs"]("flowers"))
    assert path.read_text("utf-8").split() == ["rose", "tulip"] and sentence == "2 labels."

    @with_export_flags
    def command(forms: list) -> None: ...

    assert "labels" in command.__signature__.parameters


def test_the_sentence_is_the_pages(example):
    _, [_, _, _, sentence, _], _ = example
    assert "validation images right" in sentence and SELECTION_BIAS_NOTE in sentence
