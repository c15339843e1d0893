"""A training becomes one script of plain PyTorch: it learns what the page learned, and nobody's names become code."""

import ast
import contextlib
import io
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from unittest import mock

import pytest
import timm
import torch
from deep import deep_files
from drawings import NARROW, SHAPES, SMALL, load_shapes, shape, small_model
from every_network import SMALLEST, TIMMS, enliven, five_ordinarily, side_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import headswap
from headswap import Classifier, InputError, Phase, Plan
from headswap.data.decoding import read_pixels
from headswap.export.python_source import format_assignment, to_python_literal
from headswap.export.script import eject
from headswap.export.script_network import ScriptNetwork
from headswap.networks.build import build_unsplit_network
from headswap.networks.bundled_weights import BUNDLED
from headswap.networks.head_interface import has_map_input
from headswap.networks.head_registry import HEADS, build_head
from headswap.networks.split_torchvision import split_into_stages
from headswap.networks.stage import get_in_features, get_map_channels
from headswap.training.plan import NAMED_PLANS
from headswap.training.record import EpochRecord, PhaseRecord, Record, ValidationResult

SUGGESTED = Plan(
    (NAMED_PLANS["head only"].phases[0], Phase(4, 3, 1e-4, 3e-4)),
    label_smoothing=0.0,
    head_loss_ratio=0.6,
    checkpoint="between",
)
EVERYTHING = Plan(
    (Phase(3, 0, 1e-3, schedule="cosine"), Phase(2, None, 1e-3, 1e-4, layer_decay=0.5, batch_size=8)),
    views=1,
    mixup=0.2,
    balance_classes=True,
    patience=2,
)
PLANS = {**NAMED_PLANS, "suggested": SUGGESTED, "everything": EVERYTHING}
EVIL = (
    '"""); import os; os.system("x") #',
    "{{ 7 * 7 }}{% raw %}",
    "a\nb\r\x0c\x85",
    "\u2028\u2029\u202e",
    "\ud800\udfff",
    "\\",
    "'\"",
)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The folder and what is loaded of it."""
    folder = tmp_path_factory.mktemp("shapes") / "shapes"
    return folder, load_shapes(folder, each=8)


def taught(model, plan=SUGGESTED, kept=None):
    """The model as though it had been taught by this plan."""
    counts = dict.fromkeys(model.classes, 8)
    result = ValidationResult(0.75, "accuracy", 3, 4)
    epochs, stretches = (EpochRecord(1.0, 0.5, 1.0, 0.5),), (PhaseRecord(1, ()),)
    model.record = Record(plan, counts, 19, epochs, stretches, kept or plan.checkpoint, 1, result, None, 1.0)
    return model


def names_of(source):
    """What the script defines, without running it."""
    names = {"__name__": "ejected", "__file__": "ejected.py"}
    exec(compile(source, "ejected.py", "exec"), names)
    return names


def ruff(*arguments, source):
    command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--line-length", "120", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, encoding="utf-8")


# What is written


def lines_of_code(source):
    """Lines without literals, docstrings, comments and imports."""
    source = re.sub(r"# fmt: off.*?# fmt: on", "", source, flags=re.DOTALL)
    lines = {i for i, line in enumerate(source.splitlines(), 1) if line.strip() and not line.strip().startswith("#")}
    for node in ast.walk(ast.parse(source)):
        said = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if said or isinstance(node, ast.Import | ast.ImportFrom):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


@pytest.fixture(scope="module")
def headed(shapes):
    """The bundled backbone with each head."""
    return {head: small_model(shapes[1].classes, head, backbone="efficientnet_lite0") for head in HEADS}


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("head", "plan"),
    [
        pytest.param(head, plan, marks=[pytest.mark.slow] * (head != "linear" and plan != "suggested"))
        for head in HEADS
        for plan in PLANS
    ],
)
def test_every_head_and_plan_is_a_short_script_that_a_linter_likes(shapes, headed, head, plan):
    source = eject(taught(headed[head], PLANS[plan]), shapes[1])
    assert "headswap" not in source
    checked = ruff("check", "--select", "E,F,W,I", source=source)
    assert checked.returncode == 0, checked.stdout
    formatted = ruff("format", "--diff", source=source)
    assert formatted.returncode == 0, formatted.stdout
    short = {"attention": 15, "lda": 40}.get(head, 0) + {"suggested": 25, "gradual": 15, "everything": 30}.get(plan, 0)
    assert lines_of_code(source) <= 140 + short


def test_only_what_a_plan_needs_is_written(shapes):
    plain = eject(taught(small_model(shapes[1].classes), NAMED_PLANS["freeze then unfreeze"]), shapes[1])
    full = eject(taught(small_model(shapes[1].classes), EVERYTHING), shapes[1])
    for word in ("mixup", "Beta", "cosine", "weights = len(", "waited"):
        assert word not in plain and word.lower() in full.lower(), word
    assert "random_square" not in plain and "raise_temperature" not in plain and "lerp" not in plain
    solved = eject(taught(small_model(shapes[1].classes, "lda"), NAMED_PLANS["head only"]), shapes[1])
    assert "solve_head(" in solved and "def train(" not in solved and "AdamW" not in solved


def test_what_was_kept_instead_is_what_the_script_comes_to(shapes):
    frozen = eject(taught(small_model(shapes[1].classes), SUGGESTED, "frozen"), shapes[1])
    assert "# 1. " in frozen and "# 2. " not in frozen and "lerp" not in frozen
    solved = eject(taught(small_model(shapes[1].classes, "lda"), SUGGESTED, "reference"), shapes[1])
    assert "solve_head(" in solved and "# 2. " not in solved


def test_pictures_of_16_bits_are_scaled_as_they_were_in_training(shapes, tmp_path):
    model, files = taught(small_model(shapes[1].classes)), deep_files(tmp_path)
    script = names_of(eject(model))
    for file in files:
        seen = model.preprocess.crop_to_square(
            read_pixels(file, model.preprocess.resize, model.preprocess.interpolation)
        )
        assert (script["load_views"](file)[0].float() - seen.float()).abs().max() <= 1, file.name
    without = eject(model, shapes[1])
    assert "def to_8_bits" in without and "read_16_bits" not in without  # none of these has deep colours


# Somebody else's text


TEXT = st.text(st.characters(exclude_categories=()))


@given(TEXT)
def test_any_text_is_one_literal(text):
    assert ast.literal_eval(to_python_literal(text)) == text
    assert to_python_literal(text).isprintable()


@given(st.lists(TEXT), st.sets(TEXT), st.dictionaries(TEXT, st.integers() | TEXT))
@settings(max_examples=50)
def test_any_collection_of_texts_is_one_literal(some, each, pairs):
    for value in (some, each, pairs):
        (statement,) = ast.parse(format_assignment("NAME", value or {"": ""})).body
        assert ast.literal_eval(statement.value) == (value or {"": ""})


def constant(source, name):
    """What the script assigns to a name at its top."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"There is no {name}.")


def skeleton(source):
    """The script's syntax with every literal blanked."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = 0
    return ast.dump(tree)


def test_names_that_are_code_stay_data(shapes):
    _, images = shapes
    names = dict(zip(images.classes, EVIL, strict=False))
    renamed = images.with_labels([tuple(names[name] for name in some) for some in images.label_names])
    renamed = replace(renamed, names=tuple(f"{EVIL[i % 7].replace('/', '')}/{i}" for i in range(len(renamed))))
    source = eject(taught(small_model(renamed.classes, "linear")), renamed, folder=EVIL[0])
    source.encode("utf-8")
    assert constant(source, "CLASSES") == list(renamed.classes)
    assert constant(source, "LABELS") == dict(zip(renamed.names, renamed.labels, strict=True))
    ran = [ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    assert not any("system" in call for call in ran)


@given(st.lists(TEXT, min_size=2, max_size=4, unique=True), TEXT)
@settings(max_examples=25, deadline=None)
def test_any_class_names_and_folder_change_nothing_but_literals(scripted, names, folder):
    scripted.classes = tuple(names)
    source = eject(scripted, folder=folder)
    source.encode("utf-8")
    assert constant(source, "CLASSES") == names
    scripted.classes = (*"abc"[: len(names) - 1], "d" if "".join(names).isascii() else "é")
    assert skeleton(source) == skeleton(eject(scripted))


@pytest.fixture(scope="module")
def scripted():
    return taught(small_model(2, backbone=NARROW))


# Where the images lie


def read_by(source, folder):
    """The names of what a script would learn from and what it holds back, with labels, without decoding any."""
    names = names_of(source)
    names["load_views"] = lambda path, views=1: torch.tensor([hash_of(path.relative_to(folder).as_posix())])
    halves = names["load_dataset"](folder)
    return tuple(dict(zip(keys.flatten().tolist(), labels.tolist(), strict=True)) for keys, labels in halves)


def hash_of(name):
    return int.from_bytes(name.encode(), "little") % (2**61 - 1)


def expected(images, depth=0):
    halves = images.split(SUGGESTED.validation_fraction, SUGGESTED.seed)
    key = lambda name: hash_of("/".join(name.split("/")[depth:]))  # noqa: E731
    return tuple({key(n): t for n, t in zip(half.names, half.targets.tolist(), strict=True)} for half in halves)


def test_the_same_images_are_held_back(shapes):
    folder, images = shapes
    source = eject(taught(small_model(images.classes, backbone=NARROW)), images)
    assert "CLASS_OF" not in source and "LABELS" not in source
    assert read_by(source, folder) == expected(images)


def test_a_class_with_another_name_is_still_found_in_its_folder(shapes):
    folder, images = shapes
    renamed = images.rename_class("dots", "été")
    source = eject(taught(small_model(renamed.classes, backbone=NARROW)), renamed)
    assert constant(source, "CLASS_OF") == {"dots": "été", "boxes": "boxes", "bars": "bars"}
    assert read_by(source, folder) == expected(renamed)


def test_a_folder_around_the_classes_is_peeled_off(shapes):
    folder, _ = shapes
    images = headswap.load_images(folder.parent)
    source = eject(taught(small_model(images.classes, backbone=NARROW)), images)
    assert "LABELS" not in source
    assert read_by(source, folder) == expected(images, depth=1)


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images.without([0, 5]),
        lambda images: images.relabel(0, "dots"),
        lambda images: replace(images, held_out=tuple(i % 4 == 0 for i in range(len(images)))),
    ],
)
def test_where_folders_do_not_say_it_all_a_table_does(shapes, change):
    folder, images = shapes
    changed = change(images)
    source = eject(taught(small_model(changed.classes, backbone=NARROW)), changed)
    assert read_by(source, folder) == expected(changed)


def test_without_images_some_of_each_class_are_drawn(shapes):
    folder, images = shapes
    learned, checked = read_by(eject(taught(small_model(images.classes, backbone=NARROW))), folder)
    everything = {hash_of(n): t for n, t in zip(images.names, images.labels, strict=True)}
    assert learned | checked == everything and not learned.keys() & checked.keys()
    assert sorted(checked.values()) == [0, 0, 1, 1, 2, 2]


def test_several_labels_come_from_a_table_or_from_labels_csv(tagged, tmp_path):
    model = taught(small_model(tagged.classes, backbone=NARROW, multi_label=True))
    source = eject(model, tagged)
    assert read_by(source, tmp_path) == expected(tagged)
    rows = [f"{name},{';'.join(some)}" for name, some in zip(tagged.names, tagged.label_names, strict=True)]
    (tmp_path / "labels.csv").write_text("file,labels\n" + "\n".join(rows))
    learned, checked = read_by(eject(model), tmp_path)
    assert learned | checked == {hash_of(n): t for n, t in zip(tagged.names, tagged.targets.tolist(), strict=True)}


# The network


def in_one_piece(name):
    """One of the networks with lively random weights, and its parts, which share its modules."""
    torch.manual_seed(0)
    whole, preprocess = build_unsplit_network(name, pretrained=False)
    enliven(whole)
    parts = split_into_stages(whole.eval())
    for part in (parts.stages, parts.pool):
        part.eval()
    return whole, parts, replace(preprocess, size=side_of(name))


def crowned(name, parts, preprocess, head="linear"):
    width = get_map_channels(parts, preprocess.size) if has_map_input(head) else get_in_features(parts)
    told = {"backbone": name, "pretrained": False}
    model = Classifier(parts, build_head(head, width, 3), ("a", "b", "c"), preprocess, **told)
    return taught(model.freeze().eval())


NETWORKS = five_ordinarily((*sorted(SMALLEST), *BUNDLED, *(f"timm/{name}" for name in TIMMS)))


@pytest.fixture(scope="module", params=NETWORKS)
def taken_apart(request):
    """Each network's name and what ``in_one_piece`` gives of it."""
    return request.param, *in_one_piece(request.param)


def test_the_swap_leaves_the_features(taken_apart):
    name, whole, parts, preprocess = taken_apart
    for head in ("linear", "attention"):
        model = crowned(name, parts, preprocess, head)
        script = names_of(eject(model))["Classifier"]().eval()
        script.backbone.load_state_dict(whole.state_dict(), strict=False)
        assert set(script.backbone.state_dict()) <= set(whole.state_dict())
        squares = torch.randint(0, 256, (2, 3, *2 * [preprocess.size]), dtype=torch.uint8)
        with torch.no_grad():
            ours, theirs = model.forward_features(preprocess.normalize(squares)), script.features(squares)
        assert ours.std() > 0
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4 * float(ours.abs().max()))


def test_the_parts_that_learn_are_those_of_the_stages(taken_apart):
    name, whole, parts, preprocess = taken_apart
    model = crowned(name, parts, preprocess)
    network = ScriptNetwork(model)
    owned = {id(p) for part in (*model.stages, model.pool) for p in part.parameters()}
    for count in range(1, len(model.freezable_stages) + 1):
        for deeper in (1.0, 0.5):
            rated = network.trainable_expressions(Phase(1, count, 1e-3, 1e-4, deeper))
            said = [eval(path, {"backbone": whole, "nn": nn}) for path, _ in rated]
            found = [id(p) for part in said for p in part.parameters() if id(p) in owned]
            wanted = {id(p) for stage in model.freezable_stages[-count:] for p in stage.parameters()}
            assert set(found) == wanted and len(found) == len(wanted)


def test_what_a_script_cannot_say_is_an_error_of_one_sentence(shapes):
    classes = shapes[1].classes
    cases = {
        "train it first": small_model(classes),
        "The script's template cannot build the head Linear": taught(small_model(classes, nn.Linear)),
        "given as a module": taught(headswap.adapt(timm.create_model("test_resnet"), classes)),
    }
    for words, model in cases.items():
        with pytest.raises(InputError, match=words):
            eject(model)
    with pytest.raises(InputError, match="The images show"):
        eject(taught(small_model(["x", "y"])), shapes[1])


# To the end


BLOCKED = "import runpy, sys; sys.modules['headswap'] = None; sys.argv = sys.argv[1:]; "
RUN = BLOCKED + "runpy.run_path(sys.argv[0], run_name='__main__')"


def run(script, *arguments):
    """What the script prints, run by itself where there is no headswap."""
    command = [sys.executable, "-W", "error", "-c", RUN, script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


def called(script, *arguments):
    """The same, run here."""
    with contextlib.redirect_stdout(io.StringIO()) as said, mock.patch.object(sys, "argv", [str(script), *arguments]):
        runpy.run_path(str(script), run_name="__main__")
    return said.getvalue()


def to_the_end(model, images, folder, tmp_path, plan, run=called):
    """The share that the script names rightly, and what it says of a picture of dots."""
    headswap.fit(model, images, plan)
    script, new = tmp_path / "script.py", str(tmp_path / "new.png")
    script.write_text(eject(model, images, str(folder)), "utf-8")
    said = run(script)
    right, of = map(int, re.search(r"^(\d+) of (\d+) validation images right \(\d+%\)$", said, re.MULTILINE).groups())
    assert of == model.record.result.total
    shape("dots", 1).save(new)
    (line,) = run(script, str(folder), "--predict", new).splitlines()
    assert line.startswith(f"{new}: ")
    return right / of, line.removeprefix(f"{new}: ")


QUICK = Plan((Phase(8, 0, 1e-2), Phase(2, 2, 1e-3, 1e-3)), views=3, head_loss_ratio=0.6, checkpoint="between")


@pytest.mark.subprocess
def test_the_script_learns_the_shapes(shapes, tmp_path):
    folder, images = shapes
    model = small_model(images.classes, backbone="efficientnet_lite0", side=64, pretrained=True)
    share, line = to_the_end(model, images, folder, tmp_path, QUICK)
    assert share == 1 and re.fullmatch(r"dots \(\d+%\)", line)


@pytest.mark.subprocess
@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("plan", [*PLANS, None])
def test_every_head_and_plan_runs_to_the_end(shapes, tmp_path, head, plan):
    folder, images = shapes
    model = small_model(images.classes, head, backbone="efficientnet_lite0", side=64, pretrained=True)
    share, line = to_the_end(model, images, folder, tmp_path, PLANS.get(plan), run)
    assert share >= 0.8 and line.split(" (")[0] in SHAPES


FULL = replace(EVERYTHING, phases=(Phase(2, 0, 1e-2), Phase(1, 1, 1e-2, 1e-3)))


@pytest.mark.subprocess
@pytest.mark.parametrize("plan", [QUICK, pytest.param(FULL, marks=pytest.mark.slow)])
def test_several_labels_are_learned(tagged, draw_fruits, tmp_path, plan):
    draw_fruits(tmp_path / "fruits", each=4)
    model = small_model(tagged.classes, backbone=SMALL, multi_label=True)
    _, line = to_the_end(model, tagged, tmp_path, tmp_path, plan)
    assert line == "none of them" or all(part.split()[0] in tagged.classes for part in line.split(", "))
