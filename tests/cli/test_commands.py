"""The command line does what the page does, and what was wrong is said in a line and never in a traceback."""

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import segno
from bundles import TINY as BACKBONE
from bundles import packed, tiny_model, unpacked
from drawings import SHAPES, draw_folder, load_shapes, shape
from typer.testing import CliRunner

import headswap
import headswap.ui
from headswap.cli import commands, console, inputs, model_commands, terminal, training_commands
from headswap.networks.catalogue import backbones, find_backbone
from headswap.networks.head_registry import HEADS, describe_head, get_head_options
from headswap.training.plan import NAMED_PLANS, Phase, Plan
from headswap.ui.app import lan
from headswap.ui.views.dataset import render_dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    return draw_folder(tmp_path / "shapes", each=4)


@pytest.fixture(autouse=True)
def as_wide_as_columns_says(monkeypatch):
    """Terminals are made when the module is imported, and keep the width of that moment if COLUMNS was set then."""
    for each in (console.console, console.error_console):
        monkeypatch.setattr(each, "_width", None)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `headswap` with these arguments as the installed command does: its exit status, and what it prints."""

    def run(*arguments):
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.setattr("sys.argv", ["headswap", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            commands.main()
        out, err = capsys.readouterr()
        return ended.value.code, " ".join(re.sub("[│╭╮╰╯─]", " ", out + err).split())

    return run


@pytest.fixture(autouse=True)
def shorter(monkeypatch):
    """The suggested plan with fewer epochs: enough for shapes."""
    suggest = Plan.suggest

    def suggested(images, model):
        plan = suggest(images, model)
        head, thawed = plan.phases
        return replace(plan, phases=(replace(head, epochs=20), replace(thawed, epochs=1)))

    monkeypatch.setattr(Plan, "suggest", suggested)


TINY = ("--backbone", BACKBONE)


@pytest.fixture
def tiny(monkeypatch):
    """Networks are built without weights, which would have to be downloaded."""
    adapt = inputs.adapt
    for place in map(sys.modules.get, ("headswap.cli.inputs", "headswap.training.race")):
        monkeypatch.setattr(place, "adapt", lambda *given, **how: adapt(*given, **how | {"pretrained": False}))


def test_training_on_a_folder_classifies_new_images(run, folder, tmp_path):
    new = [tmp_path / f"new {name}.png" for name in SHAPES]
    for path, name in zip(new, SHAPES, strict=True):
        shape(name, 11).save(path)
    status, said = run("train", folder, *(part for path in new for part in ("--classify", path)))
    assert not status
    assert "12 images read, 0 skipped." in said
    assert re.search(r"A head that is solved at once names \d of 3 validation images rightly\.", said)
    assert "The head learns" in said and "weights stand still" in said
    assert re.search(r"Kept .* epoch,? \d+", said)
    assert re.search(r"\d of 3 validation images right \(\d+% to \d+%\)", said)
    for path, name in zip(new, SHAPES, strict=True):
        ranked = re.search(rf"{re.escape(path.name)} (\w+) ([\d.]+)% (\w+) (\d+)%, (\w+) (\d+)%", said)
        assert ranked, said
        assert {*ranked.groups()[::2]} == set(SHAPES)
        assert float(ranked[2]) >= int(ranked[4]) >= int(ranked[6])
        assert ranked[1] == name


def test_heads_race_and_the_winner_classifies(run, folder, tmp_path):
    new = tmp_path / "new.png"
    shape("dots", 11).save(new)
    status, said = run("race", folder, "--head", "linear", "--head", "lda", "--classify", new)
    assert not status
    assert re.search(r"Of 3 validation images right: (linear|lda) \d, (linear|lda) \d\. (linear|lda) goes on\.", said)
    assert re.search(r"new\.png dots [\d.]+%", said)


def test_a_race_of_one_is_said_in_a_line(run, folder):
    status, said = run("race", folder, "--head", "linear")
    assert status and "A race needs two heads at least" in said


@pytest.mark.parametrize(("weights", "words"), [("frozen", "the frozen network"), ("reference", "the head that is")])
def test_other_weights_of_the_training_are_kept_if_asked_for(run, folder, tiny, tmp_path, weights, words):
    status, said = run("train", folder, *TINY, "--keep", weights, "--out", tmp_path / "x.headswap")
    found = re.search(rf"Kept {words}.* instead: (\d) of 3 validation images right\.", said)
    assert not status and found
    assert headswap.load(tmp_path / "x.headswap").record.result.correct == int(found[1])


def test_weights_that_a_training_does_not_have_cost_nothing(run, folder, tiny, tmp_path):
    status, said = run("train", folder, *TINY, "--head", "lda", "--plan", "head only", "--keep", "frozen")
    assert not status and "no other weights to keep that are called frozen; nothing was changed" in said
    status, said = run("train", folder, *TINY, "--refit", "--keep", "frozen")
    assert status == 2 and "leave --keep away" in said


@pytest.mark.subprocess
def test_what_goes_into_a_pipe_has_whole_lines(kept, tmp_path):
    path = tmp_path / "a name that is longer than half of a terminal" / "and so is this one of the picture.png"
    path.parent.mkdir()
    shape("dots", 11).save(path)
    command = [sys.executable, "-m", "headswap", "predict", str(kept), str(path)]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert str(path) in done.stdout, done.stderr


@pytest.mark.parametrize("head", ["bottleneck", "lda"])
def test_the_command_line_takes_every_kind_of_head(run, folder, tiny, head):
    status, said = run("train", folder, *TINY, "--head", head)
    assert not status and "validation images right" in said


def test_the_seed_is_that_of_the_split(folder, monkeypatch):
    plans = []
    monkeypatch.setattr(training_commands, "train", lambda model, images, plan: plans.append(plan) or iter(()))
    for seed in (0, 7):
        assert CliRunner().invoke(commands.cli, ["train", str(folder), "--seed", str(seed)]).exit_code == 0
    assert [plan.seed for plan in plans] == [0, 7]


@pytest.fixture
def plans(folder, monkeypatch):
    """Runs `headswap train` with these arguments and gives the plan that was trained by."""
    seen = []
    monkeypatch.setattr(training_commands, "train", lambda model, images, plan: seen.append(plan) or iter(()))

    def run(*arguments):
        assert CliRunner().invoke(commands.cli, ["train", str(folder), *arguments]).exit_code == 0
        return seen.pop()

    return run


@pytest.mark.parametrize("name", NAMED_PLANS)
def test_a_classic_plan_is_chosen_by_its_name(plans, name):
    assert plans("--plan", name, "--seed", "3") == replace(Plan.from_name(name), seed=3)


def test_without_a_name_the_plan_is_the_suggested_one(plans):
    assert plans() == plans("--plan", "suggested")
    assert plans().advice


@pytest.mark.parametrize("arguments", [("--plan", "gradully"), ("--folds", "1")])
def test_a_plan_that_does_not_exist_or_too_few_folds_are_said_before_anything_is_trained(run, folder, arguments):
    status, said = run("train", folder, *arguments)
    assert status not in (0, None) and "Traceback" not in said
    assert "Did you mean gradual?" in said or "greater than or equal to 2" in said


def test_folds_judge_the_head_first_and_a_refit_comes_last(run, folder, tiny, monkeypatch):
    monkeypatch.setattr(Plan, "suggest", lambda images, model: Plan((Phase(1, 0, 1e-3),), views=1))
    status, said = run("train", folder, *TINY, "--folds", "2", "--refit")
    assert not status
    judged, kept, again = (
        said.index(words)
        for words in ("Judged by heads that had not seen them", "Kept", "Learned again from all images")
    )
    assert judged < kept < again
    assert "of 12 images are named rightly" in said
    first, *_, last = re.findall(r"(\d) of 3 validation images right", said[kept:])
    assert first == last


def test_folds_of_more_parts_than_a_class_has_images_are_said_in_a_line(run, folder):
    status, said = run("train", folder, "--folds", "5")
    assert status == 1 and "too few for 5 folds" in said


def test_every_skipped_file_is_named_as_it_is_called(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(training_commands, "train", lambda *_: iter(()))
    (folder / "dots" / "[red] torn.png").write_bytes(b"no picture")
    result = CliRunner().invoke(commands.cli, ["train", str(folder)])
    assert result.exit_code == 0
    assert "12 images read, 1 skipped." in result.output
    assert "[red] torn.png" in result.output


# What is wrong


def test_a_missing_folder_is_said_in_a_line(run, tmp_path):
    status, said = run("train", tmp_path / "nowhere")
    assert status == 1
    assert said == "nowhere does not exist; check the name."


def test_a_folder_without_images_is_said_in_a_line(run, tmp_path):
    (tmp_path / "empty").mkdir()
    status, said = run("train", tmp_path / "empty")
    assert status == 1
    assert "empty" in said and "Traceback" not in said and len(said) < 300


@pytest.mark.parametrize(
    ("option", "name", "offered"),
    [("--head", "botleneck", "Did you mean bottleneck?"), ("--backbone", "resnet19", "Did you mean resnet18")],
)
def test_an_unknown_name_is_said_with_the_nearest(run, folder, option, name, offered):
    status, said = run("train", folder, option, name)
    assert status not in (0, None)
    assert f"'{name}'" in said and offered in said and "Traceback" not in said


def test_a_missing_image_is_said_before_anything_is_trained(run, folder, monkeypatch):
    trained = []
    monkeypatch.setattr(training_commands, "train", lambda *_: trained.append(True) or iter(()))
    status, said = run("train", folder, "--classify", "nowhere.png")
    assert status not in (0, None) and not trained
    assert "nowhere.png" in said and "does not exist" in said and "Traceback" not in said


# A model that was kept


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A model that knows the shapes, in its file; not to be written to."""
    path = tmp_path_factory.mktemp("kept") / "shapes.headswap"
    images = load_shapes(path.parent / "shapes")
    model = tiny_model(images.classes, head="lda")
    headswap.fit(model, images, Plan((Phase(1, 0, 1e-3),), views=1))
    headswap.save(model, path)
    return path


@pytest.fixture
def new(tmp_path):
    """A picture that no training has seen."""
    shape("dots", 11).save(tmp_path / "=new.png")
    return tmp_path / "=new.png"


def rows(out):
    """The JSON of each line."""
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def out(monkeypatch, capsys):
    """Runs `headswap` with these arguments: its exit status, and what it prints to either stream, as it stands."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["headswap", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            commands.main()
        return ended.value.code or 0, *capsys.readouterr()

    return run


def test_a_training_is_saved_and_the_file_answers(run, folder, tiny, new, tmp_path, monkeypatch):
    monkeypatch.setattr(Plan, "suggest", lambda images, model: Plan((Phase(1, 0, 1e-3),), views=1))
    status, said = run("train", folder, *TINY, "--head", "lda", "--out", tmp_path / "shapes.headswap")
    assert not status and "was loaded again: no difference on 5 images" in said
    status, said = run("predict", tmp_path / "shapes.headswap", new)
    assert not status and re.search(r"=new\.png (dots|boxes|bars) [\d.]+%", said)


def test_a_place_that_is_none_is_said_before_anything_is_read(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "load_images_with_progress", None)
    status, said = run("train", folder, "--out", tmp_path / "nowhere" / "x.headswap")
    assert status == 1 and "does not exist; make it first" in said
    status, said = run("train", folder, "--out", tmp_path)
    assert status == 1 and "give the name of a file" in said


def test_where_nothing_can_be_written_is_said_before_anything_is_read(run, folder, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(inputs, "load_images_with_progress", None)
    monkeypatch.setattr(inputs.tempfile, "TemporaryFile", refuse)
    status, said = run("train", folder, "--out", tmp_path / "x.headswap")
    assert status == 1 and "Nothing can be written in" in said and "Permission denied" in said


@pytest.mark.parametrize("more", [("--head", "mlp"), ("--backbone", "resnet18"), ("--option", "dropout=0.2")])
def test_a_kept_model_has_its_head_and_backbone_already(run, kept, folder, more):
    status, said = run("train", folder, "--from", kept, *more)
    assert status == 2 and "With --from the backbone and the head are the file's" in said


def test_images_that_it_has_learned_from_are_counted_and_said_to_flatter(run, out, kept, tmp_path):
    status, said = run("evaluate", kept, kept.parent / "shapes")
    learned = len(headswap.load(kept).seen.training_hashes) // 16
    assert not status and f"{learned} of these 18 images were learned from, so the figures flatter." in said
    _, told, _ = out("evaluate", kept, kept.parent / "shapes", "--json")
    assert rows(told)[-1]["learned_from"] == learned
    others = tmp_path / "others"
    for name in SHAPES:
        (others / name).mkdir(parents=True)
        shape(name, 3, (90, 70)).rotate(90).save(others / name / "1.png")
    status, said = run("evaluate", kept, others)
    assert not status and "flatter" not in said


def test_a_file_that_is_not_as_it_was_saved_is_told_on_the_error_stream_alone(out, kept, new, tmp_path):
    damaged = packed(tmp_path / "damaged.headswap", unpacked(kept) | {"README.md": b""})
    for verb in (("predict", damaged, new), ("evaluate", damaged, kept.parent / "shapes")):
        status, said, told = out(*verb, "--json")
        assert status == 0 and all("event" in row for row in rows(said))
        assert "damaged.headswap is not as it was saved: README.md is damaged." in " ".join(told.split())


def test_going_on_keeps_what_was_held_back_and_says_so(run, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(Plan, "suggest", lambda images, model: Plan((Phase(1, 0, 1e-3),), views=1))
    status, said = run(
        "train", kept.parent / "shapes", "--from", kept, "--seed", "3", "--out", tmp_path / "on.headswap"
    )
    assert not status and "none of them was ever learned from" in " ".join(said.split())
    assert headswap.load(tmp_path / "on.headswap").seen == headswap.load(kept).seen


def test_a_kept_model_learns_on_and_takes_a_new_class(run, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(Plan, "suggest", lambda images, model: Plan((Phase(1, 0, 1e-3),), views=1))
    folder = draw_folder(tmp_path / "more", each=4)
    (folder / "crosses").mkdir()
    for number in range(4):
        shape("bars", number).rotate(90).save(folder / "crosses" / f"{number}.png")
    status, _ = run("train", folder, "--from", kept, "--out", tmp_path / "more.headswap")
    assert not status
    assert headswap.load(tmp_path / "more.headswap").classes == (*sorted(SHAPES), "crosses")


def test_answers_are_a_table_that_starts_no_formula(out, kept, new):
    status, said, _ = out("predict", kept, new, "--format", "csv")
    header, row = csv.reader(said.splitlines())
    assert status == 0 and header == ["file", "answer", *sorted(SHAPES)]
    assert sum(map(float, row[2:])) == pytest.approx(1, abs=1e-4)
    named = dict(headswap.load(kept).predict(new))
    assert row[1] == max(named, key=named.get)


def test_answers_are_json_for_machines(out, kept, new):
    for asked in (("--json",), ("--format", "json")):
        status, said, errors = out("predict", kept, new, *asked)
        [told] = rows(said)
        assert (status, errors) == (0, "") and told["file"] == str(new)
        assert [(a["class"], a["probability"]) for a in told["answers"]] == headswap.load(kept).predict(new)


def test_a_folder_stands_for_its_images_and_what_cannot_be_read_fails_in_the_end(out, kept, folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    status, said, errors = out("predict", kept, tmp_path / "broken.png", folder, "--json")
    assert status == 1 and "broken.png" in errors
    assert len(rows(said)) == 12
    status, said, errors = out("predict", kept, tmp_path / "nothing.png")
    assert status == 1 and "nothing.png" in errors


def test_a_folder_is_answered_as_loading_it_would_read_it(out, kept, tmp_path):
    shape("dots").save(tmp_path / "0.jfif", "JPEG")
    shape("dots").save(tmp_path / "no ending", "PNG")
    shape("dots").save(tmp_path / "grey.pgm")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    shape("dots").save(tmp_path / ".ipynb_checkpoints" / "0-checkpoint.png")
    (tmp_path / "._0.jpg").write_bytes(b"Mac OS X")
    (tmp_path / "notes.txt").write_text("notes")
    status, said, errors = out("predict", kept, tmp_path, "--format", "csv")
    answered = {Path(row["file"]).name for row in csv.DictReader(io.StringIO(said))}
    assert status == 0 and answered == {"0.jfif", "no ending", "grey.pgm"}
    assert "1 passed over (the first, notes.txt, is not a picture)" in " ".join(errors.split())


def test_the_test_folder_judges_and_one_class_is_enough(out, kept, tmp_path):
    draw_folder(tmp_path / "set" / "train", each=4)
    draw_folder(tmp_path / "set" / "Testing", each=2, names=("dots",))
    status, said, _ = out("evaluate", kept, tmp_path / "set")
    words = " ".join(said.split())
    assert status == 0 and "Judged by Testing/: 2 images. train/ is left out." in words and " of 2 right" in words


def test_what_a_table_was_understood_to_say_is_the_same_sentence_everywhere(out, tmp_path):
    root = draw_folder(tmp_path / "set", each=2)
    rows = "".join(f"{name}/{i}.png,{name},{i}\n" for name in SHAPES for i in range(2))
    (root / "labels.csv").write_text(f"image,label,weight\n{rows}")
    sentence = "labels.csv: column label, 3 classes; column weight is not used."
    _, said, _ = out("check", root)
    assert sentence in " ".join(said.split())
    _, said, _ = out("check", root, "--json")
    read, _ = [json.loads(line) for line in said.splitlines()]
    images = headswap.load_images(root)
    assert read["understood"] == [sentence] == list(images.report.interpretation)
    assert sentence in str(images.report) and sentence in render_dataset(images)


def test_a_kept_model_is_judged(out, kept, folder):
    status, said, _ = out("evaluate", kept, folder)
    assert status == 0 and re.search(r"\d+ of 12 right, \d+ %", said) and "precision" in said
    status, said, _ = out("evaluate", kept, folder, "--json")
    read, told = rows(said)
    assert read["event"] == "Read" and read["images"] == 12
    assert told["of"] == 12 and sum(map(sum, told["confusion"])) == 12 and len(told["per_class"]) == 3


def test_an_export_goes_beside_the_images_and_never_among_them(run, kept, tmp_path):
    model = tmp_path / "pets.headswap"
    model.write_bytes(kept.read_bytes())
    draw_folder(tmp_path / "pets", each=1)
    for _ in range(2):  # into its own folder again
        status, _ = run("export", model, "--script")
        assert status == 0 and (tmp_path / "pets-exported" / "pets.py").is_file()
    assert {path.name for path in (tmp_path / "pets").iterdir()} == set(SHAPES)


@pytest.mark.parametrize("verb", ["predict", "evaluate", "export"])
def test_a_file_that_is_no_model_is_said(run, folder, verb, tmp_path):
    (tmp_path / "no.headswap").write_bytes(b"PK")
    wanted = {"predict": [folder], "evaluate": [folder], "export": ["--onnx"]}[verb]
    status, said = run(verb, tmp_path / "no.headswap", *wanted)
    assert status == 1 and "no.headswap is no headswap model" in said and "Traceback" not in said


def test_a_kept_model_is_exported_in_every_form(run, kept, tmp_path):
    ways = ("--onnx", "--program", "--script", "--space")
    status, said = run("export", kept, *ways, "--images", kept.parent / "shapes", "--out", tmp_path / "out")
    assert not status and said.count("was loaded again") == 3
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")}
    assert {"onnx/model.onnx", "onnx/predict.py", "space/app.py", "shapes.pt2", "shapes.py"} <= names
    assert '"bars/0.png"' in (script := (tmp_path / "out" / "shapes.py").read_text()) or "HELD_OUT" in script


def test_an_export_wants_to_know_as_what(run, kept):
    status, said = run("export", kept)
    assert status == 2 and "--onnx, --program, --script or --space" in said


@pytest.mark.parametrize("as_space", [False, True])
def test_a_push_brings_the_file_or_the_page(run, kept, monkeypatch, as_space):
    pushed = []
    monkeypatch.setattr(
        model_commands, "push_to_hub", lambda files, name, **how: pushed.append((files, name, how)) or "https://there"
    )
    status, said = run("push", kept, "me/shapes", *["--space"] * as_space)
    [(files, name, how)] = pushed
    assert not status and "https://there" in said
    assert (name, how) == ("me/shapes", {"space": as_space, "private": True})
    assert ("app.py" in files) == as_space
    assert files.get("shapes.headswap") == (None if as_space else kept.read_bytes())


def test_a_machine_hears_every_event_as_one_line(out, folder, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Plan, "suggest", lambda images, model: Plan((Phase(2, 0, 1e-3),), views=1))
    status, said, errors = out("train", folder, *TINY, "--out", tmp_path / "x.headswap", "--json")
    told = rows(said)
    assert (status, errors) == (0, "")
    assert [row["event"] for row in told if row.get("event") == "Epoch"] == ["Epoch"] * 2
    assert (
        told[0]["event"] == "Read"
        and told[-2]["event"] == "Kept"
        and told[-1] == {"event": "Saved", "file": str(tmp_path / "x.headswap")}
    )
    assert told[-2]["of"] == 3 and "offers" not in told[-2]


def test_findings_and_backbones_are_told_to_machines(out, folder):
    status, said, _ = out("check", folder, "--json")
    assert status == 0 and rows(said)[-1]["classes"] == dict.fromkeys(sorted(SHAPES), 4)
    status, said, _ = out("backbones", "--json")
    assert status == 0 and [row["name"] for row in rows(said)] == [row.name for row in backbones()]


# The other verbs


@pytest.mark.parametrize("columns", [80, 200])
def test_backbones_lists_all_of_them_with_their_figures(monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    said = CliRunner().invoke(commands.cli, ["backbones"]).output
    assert max(map(len, said.splitlines())) <= columns
    names = [row.name for row in backbones()]
    assert [word for word in said.split() if word in names] == names
    assert "75.1 %" in said and "on this machine" in said


def test_the_page_is_started_where_it_was_said(monkeypatch):
    asked = []
    monkeypatch.setattr(headswap.ui, "launch", lambda **settings: asked.append(settings))
    assert CliRunner().invoke(commands.cli, ["app"]).exit_code == 0
    arguments = ["app", "--port", "7999", "--host", "0.0.0.0", "--no-browser"]
    assert CliRunner().invoke(commands.cli, arguments).exit_code == 0
    assert asked == [
        {"server_port": None, "server_name": "127.0.0.1", "inbrowser": True},
        {"server_port": 7999, "server_name": "0.0.0.0", "inbrowser": False},
    ]


def test_every_verb_is_explained():
    said = CliRunner().invoke(commands.cli, ["--help"]).output
    for name, command in commands.COMMANDS.items():
        assert name in said and command.summary in " ".join(re.sub("[│╭╮╰╯─]", " ", said).split())
        docstring = " ".join((commands.load_command(name).help or "").split())
        assert docstring.startswith(command.summary)


def test_the_version_is_printed(run):
    assert run("--version") == (0, f"headswap {headswap.__version__}")


def test_without_a_verb_the_help_is_shown(run):
    status, said = run()
    assert status != 1 and "Usage" in said


def test_heads_lists_every_head_with_its_options(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    said = CliRunner().invoke(commands.cli, ["heads"]).output
    for name in HEADS:
        assert f" {name} " in said and describe_head(name) in said
        assert all(option in said for option in get_head_options(name))


def test_options_of_a_head_reach_it(folder, monkeypatch):
    models = []
    monkeypatch.setattr(training_commands, "train", lambda model, *_: models.append(model) or iter(()))
    arguments = ["train", str(folder), "--head", "mlp", "--option", "hidden_dims=8,4", "--option", "dropout=0.5"]
    assert CliRunner().invoke(commands.cli, arguments).exit_code == 0
    assert [models[0].head.hidden1.out_features, models[0].head.hidden2.out_features] == [8, 4]
    assert models[0].head.dropout1.p == 0.5


@pytest.mark.parametrize(("option", "words"), [("dropout=much", "dropout=0.0"), ("depth=3", "not 'depth'")])
def test_a_wrong_option_is_said_in_a_line(run, folder, option, words):
    status, said = run("train", folder, "--option", option)
    assert status not in (0, None)
    assert words in said and "Traceback" not in said


def test_a_download_is_shown_while_it_lasts(folder, monkeypatch):
    told = []

    def slow(*_, progress, **__):
        progress(5, 10)
        told.append(True)
        raise headswap.InputError("No network.")

    monkeypatch.setattr(inputs, "adapt", slow)
    result = CliRunner().invoke(commands.cli, ["train", str(folder)])
    assert told and isinstance(result.exception, headswap.InputError)


def test_the_documents_write_about_every_head_and_its_options():
    page = (Path(__file__).parents[2] / "docs/backbones.md").read_text("utf-8")
    for name in HEADS:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert re.findall(r"`(\w+)`", row.split("|")[3]) == list(get_head_options(name))


def test_a_folder_is_checked_before_anything_is_trained(folder):
    twin = next((folder / "dots").iterdir())
    (folder / "bars" / "twin.png").write_bytes(twin.read_bytes())
    (folder / "bars" / "notes.txt").write_text("x")
    told = CliRunner().invoke(commands.cli, ["check", str(folder)])
    assert told.exit_code == 0
    for words in ("notes.txt: is not a picture", "The same picture stands in several classes: bars, dots", "twin.png"):
        assert words in told.output
    (folder / "bars" / "twin.png").unlink()
    assert "several classes" not in CliRunner().invoke(commands.cli, ["check", str(folder)]).output


def test_a_classroom_is_let_in_and_shown_the_way(monkeypatch):
    asked = []
    monkeypatch.setattr(headswap.ui, "launch", lambda invite=None, **settings: asked.append((invite, settings)))
    assert CliRunner().invoke(commands.cli, ["app", "--lan", "--port", "7999"]).exit_code == 0
    [(invite, settings)] = asked
    assert settings == {"server_port": 7999, "server_name": "0.0.0.0", "inbrowser": False}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        invite(7999)
    said = printed.getvalue()
    [address] = re.findall(r"Everybody in this network: (http://[\d.]+:7999/)", said)
    assert "\u2588" in said and "no camera" in said and "http://127.0.0.1:7999/" in said
    assert lan.find_lan_address() in address


def test_the_code_holds_the_address():
    wanted = segno.make("http://192.0.2.7:7860/", error="l", micro=False)
    drawn = io.StringIO()
    wanted.terminal(drawn, border=2, compact=True)
    assert drawn.getvalue() in lan.format_invitation("192.0.2.7", 7860)


def test_a_computer_without_a_network_invites_itself(monkeypatch):
    def unreachable(self, address):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(lan.socket.socket, "connect", unreachable)
    assert lan.find_lan_address() == "127.0.0.1"


def test_weights_are_fetched_before_class(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    built = []

    def adapt(name, classes, head, *, progress, **_):
        built.append(name)
        file = find_backbone(name).weights_file
        if not file.is_file():
            progress(5, 10)
            file.parent.mkdir(parents=True)
            file.write_bytes(b"weights")

    monkeypatch.setattr(inputs, "adapt", adapt)
    status, said = run("fetch", "resnet18", "efficientnet_lite0")
    assert not status and built == ["resnet18", "efficientnet_lite0"]
    assert re.search(r"resnet18: 4\d MB fetched, \S*resnet18-\w+\.pth", said)
    assert "efficientnet_lite0: was here already, " in said
    assert "resnet18: was here already" in run("fetch", "resnet18")[1]


def test_a_backbone_that_nobody_knows_is_not_fetched(run):
    status, said = run("fetch", "resnet81")
    assert status and "resnet" in said and "Traceback" not in said


# Ctrl+C


@pytest.fixture
def press(monkeypatch, tiny):
    """Has Ctrl+C pressed as soon as so many events of a kind have been told; afterwards the key does what it did."""
    before = signal.getsignal(signal.SIGINT)

    def press(kind, times=1, presses=1):
        heard = []

        def telling(told):
            def tell(event, *more):
                heard.append(type(event).__name__)
                if heard[-1] == kind and heard.count(kind) == times:
                    for _ in range(presses):
                        signal.raise_signal(signal.SIGINT)
                return told(event, *more)

            return tell

        for name in ("event_to_dict", "_show_event"):
            monkeypatch.setattr(terminal, name, telling(getattr(terminal, name)))

    yield press
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture
def long(monkeypatch, tiny):
    """A plan that would take longer than anybody waits, a phase in which stages learn included."""
    plan = Plan((Phase(8, 0, 1e-2), Phase(10_000, 1, 1e-3, 1e-4)), views=1)
    monkeypatch.setattr(Plan, "suggest", lambda images, model: plan)


@pytest.mark.parametrize("epochs", [3, 10])
def test_ctrl_c_keeps_the_best_so_far_and_writes_the_file(out, press, long, folder, tmp_path, epochs):
    press("Epoch", epochs)
    status, said, errors = out("train", folder, *TINY, "--out", tmp_path / "x.headswap", "--json")
    told = rows(said)
    judged = [row for row in told if row["event"] == "Epoch"]
    best = [row for row in judged if row["best"]][-1]
    assert (status, errors) == (130, "")
    assert [row["event"] for row in told[-2:]] == ["Stopped", "Saved"] and len(judged) == epochs
    assert told[-2]["learned"] and (told[-2]["epoch"], told[-2]["right"]) == (best["number"], best["right"])
    record = headswap.load(tmp_path / "x.headswap").record
    assert (record.checkpoint, record.epoch, record.result.correct) == ("best", best["number"], best["right"])


def test_ctrl_c_is_said_to_a_person_and_nothing_more_is_done(run, press, long, folder, new, tmp_path):
    press("Epoch", 3)
    more = ("--refit", "--classify", new)
    status, said = run("train", folder, *TINY, "--out", tmp_path / "x.headswap", *more)
    assert status == 130 and "Traceback" not in said and "Learned again" not in said and "=new.png" not in said
    assert re.search(r"Stopped\. Kept the weights of epoch [123], the best so far: \d of 3 validation images", said)
    assert "is being written; Ctrl+C again ends at once." in said and "was loaded again: no difference" in said
    assert (tmp_path / "x.headswap").is_file()


def test_ctrl_c_without_a_file_to_write_says_so(run, press, long, folder):
    press("Epoch", 2)
    status, said = run("train", folder, *TINY)
    assert status == 130 and "Stopped. Kept" in said and "Without --out nothing is saved." in said


@pytest.mark.parametrize("kind", ["FrozenPass", "Reference", "Fold"])
def test_ctrl_c_before_anything_was_learned_says_so_and_writes_nothing(run, press, folder, tmp_path, kind):
    press(kind)
    (tmp_path / "x.headswap").write_text("older")
    status, said = run("train", folder, *TINY, "--folds", "2", "--out", tmp_path / "x.headswap")
    assert status == 130 and "Traceback" not in said
    assert f"Stopped before anything was learned; {tmp_path / 'x.headswap'} was not written." in said
    assert (tmp_path / "x.headswap").read_text() == "older"


@pytest.mark.parametrize("verb", ["train", "race", "check"])
def test_ctrl_c_while_images_are_read_ends_in_a_line(run, folder, monkeypatch, temporary, verb):
    loading = inputs.load_images_with_progress

    def pressed(folder, **how):
        for step in loading(folder, **how):
            signal.raise_signal(signal.SIGINT)
            yield step

    monkeypatch.setattr(inputs, "load_images_with_progress", pressed)
    status, said = run(verb, folder)
    assert status == 130 and "Traceback" not in said
    assert said == ("Stopped." if verb == "check" else "Stopped before anything was learned.")
    assert list(temporary.iterdir()) == []


def test_a_second_ctrl_c_ends_at_once(run, press, long, folder, tmp_path):
    press("Epoch", 3, presses=2)
    status, said = run("train", folder, *TINY, "--out", tmp_path / "x.headswap")
    assert status == 130 and "Traceback" not in said
    assert said.endswith("Ended at once. What was learned and not yet written is lost.")
    assert not (tmp_path / "x.headswap").exists()


def test_a_second_ctrl_c_while_the_file_is_written_leaves_no_half_of_it(
    run, press, long, folder, tmp_path, monkeypatch
):
    (tmp_path / "x.headswap").write_text("older")
    monkeypatch.setattr("headswap.export.model_file.check_parity", lambda *_: signal.raise_signal(signal.SIGINT))
    press("Epoch", 3)
    status, said = run("train", folder, *TINY, "--out", tmp_path / "x.headswap")
    assert status == 130 and "Ended at once." in said
    assert (tmp_path / "x.headswap").read_text() == "older"
    assert {path.name for path in tmp_path.iterdir()} == {"shapes", "x.headswap"}


def test_a_first_ctrl_c_while_the_file_is_written_lets_it_be_written(out, tiny, folder, new, tmp_path, monkeypatch):
    monkeypatch.setattr(Plan, "suggest", lambda images, model: Plan((Phase(1, 0, 1e-3),), views=1))
    save = training_commands.save
    monkeypatch.setattr(training_commands, "save", lambda *given: (signal.raise_signal(signal.SIGINT), save(*given))[1])
    status, said, errors = out("train", folder, *TINY, "--out", tmp_path / "x.headswap", "--classify", new, "--json")
    assert (status, errors) == (130, "")
    assert [row["event"] for row in rows(said)[-3:]] == ["Kept", "Saved", "Stopped"]
    assert headswap.load(tmp_path / "x.headswap").classes == tuple(sorted(SHAPES))


def test_ctrl_c_while_it_learns_again_keeps_the_honest_network(out, press, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Plan, "suggest", lambda images, model: Plan((Phase(2, 0, 1e-2),), views=1))
    press("Epoch", 3)
    status, said, _ = out("train", folder, *TINY, "--refit", "--out", tmp_path / "x.headswap", "--json")
    kept, stopped, saved = (
        [row for row in rows(said) if row["event"] == event][-1] for event in ("Kept", "Stopped", "Saved")
    )
    assert status == 130 and saved["file"] == str(tmp_path / "x.headswap")
    assert stopped["epoch"] == kept["epoch"] and "It has not learned again from all images." in stopped["sentence"]
    assert not headswap.load(tmp_path / "x.headswap").record.refitted


@pytest.mark.parametrize(("kind", "times"), [("Lap", 20), ("Won", 1)])
def test_ctrl_c_in_a_race_keeps_the_head_that_is_ahead(run, press, folder, tmp_path, monkeypatch, kind, times):
    plan = Plan((Phase(20, 0, 1e-2), Phase(10_000, 1, 1e-3, 1e-4)), views=1)
    monkeypatch.setattr("headswap.features.frozen_pass.EVENT_INTERVAL_SECONDS", 0)
    monkeypatch.setattr(Plan, "suggest", staticmethod(lambda images, model: plan))
    press(kind, times)
    heads = ("--head", "linear", "--head", "bottleneck")
    status, said = run("race", folder, *TINY, *heads, "--out", tmp_path / "x.headswap")
    [ahead] = re.findall(r"The head (\w+) was ahead\.", said)
    assert status == 130 and "Stopped. Kept the weights of epoch" in said
    model = headswap.load(tmp_path / "x.headswap")
    assert type(model.head).__name__.lower() == ahead and model.record.checkpoint == "best"


def test_ctrl_c_in_a_race_before_anything_was_learned_writes_nothing(run, press, folder, tmp_path):
    press("FrozenPass")
    status, said = run("race", folder, *TINY, "--out", tmp_path / "x.headswap")
    assert status == 130 and "Stopped before anything was learned" in said
    assert not (tmp_path / "x.headswap").exists()


def test_a_model_that_goes_on_is_not_written_where_nothing_new_was_learned(run, press, kept, folder, tmp_path):
    press("FrozenPass")
    status, said = run("train", folder, "--from", kept, "--out", tmp_path / "x.headswap")
    assert status == 130 and "Stopped before anything was learned" in said
    assert not (tmp_path / "x.headswap").exists()


@pytest.mark.subprocess
@pytest.mark.slow
def test_ctrl_c_at_the_installed_command_keeps_the_best(folder, tmp_path):
    """The same with a process of its own, wherever the signal meets it."""
    command = [sys.executable, "-W", "ignore", "-m", "headswap", "train", str(folder), "--json", "--out"]
    with subprocess.Popen(
        [*command, str(tmp_path / "x.headswap")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if json.loads(line)["event"] == "Epoch":
                process.send_signal(signal.SIGINT)
                break
        rest, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (130, "")
    assert [json.loads(line)["event"] for line in rest.splitlines()[-2:]] == ["Stopped", "Saved"]
    assert headswap.load(tmp_path / "x.headswap").record.checkpoint == "best"
