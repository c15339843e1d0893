"""What the test step says and shows: its handlers are plain functions of a visitor, so they are called as such."""

import base64
import csv
import io
import re
import zipfile
from types import SimpleNamespace

import pytest
from PIL import Image
from telling import FINISHED
from visiting import is_error, text_of

from headswap.common import text
from headswap.data.loading import load_images
from headswap.ui.panels import mistakes as judging
from headswap.ui.panels import run_view
from headswap.ui.panels.browser_events import parse_analysis_click, parse_files_upload
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import TrainedModel
from headswap.ui.steps import test, train
from headswap.ui.views import answers as answers_view

TURNS = Scheduler()


def test_the_test_step_reminds_of_what_was_trained(trained):
    now = test.refresh(trained.visitor)
    drawing, words = now.stage_strip, now.status
    kept = trained.visitor.job.run.kept
    assert 'class="hs-strip"' in drawing
    assert "EfficientNet-Lite0" in text_of(words)
    assert f"{kept.correct} of {kept.total} validation images" in text_of(words)
    assert "blue, green and red" in text_of(words)


def test_before_training_the_test_step_says_what_to_do(visitor, fruits):
    now = test.refresh(visitor)
    drawing, words = now.stage_strip, now.status
    assert 'class="hs-strip"' in drawing
    assert "No model has learned anything yet" in text_of(words)
    answer = test.predict_files(visitor, TURNS, [str(fruits / "red/1.png")])
    assert is_error(answer)
    assert "Press Train" in text_of(answer)


def test_without_images_the_answers_are_a_hint(visitor, trained):
    for who in (visitor, trained.visitor):
        for nothing in (None, []):
            assert "The answers appear here" in text_of(test.predict_files(who, TURNS, nothing))


def answers(html):
    """Verdict and bars of each answer: ``[(verdict, [(class, width)])]``."""
    found = []
    for article in re.findall(r"<article.*?</article>", html):
        verdict = re.search(r'class="hs-verdict">(.*?)</p>', article)[1]
        names = re.findall(r'class="hs-bar-name"[^>]*>(.*?)</span>', article)
        widths = re.findall(r"width:([\d.]+%)", article)
        found.append((verdict, list(zip(names, widths, strict=True))))
    return found


def test_the_answers_are_those_of_the_model(trained, fruits):
    paths = [str(path) for path in sorted(fruits.rglob("1.png"))]
    found = answers(test.predict_files(trained.visitor, TURNS, paths))
    assert len(found) == 3
    for path, (verdict, bars) in zip(paths, found, strict=True):
        ranked = trained.visitor.trained_model.model.predict(path)
        assert bars == [(name, f"{share:.1%}") for name, share in ranked]
        name, share = ranked[0]
        assert verdict == (f"{name}, {share * 100:.0f} %" if share >= 0.6 else f"Not sure; perhaps {name}")


def test_a_corrupt_file_among_good_ones_is_named_and_the_others_are_answered(trained, fruits, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    paths = [str(fruits / "red/1.png"), str(tmp_path / "torn.png"), str(fruits / "blue/1.png")]
    html = test.predict_files(trained.visitor, TURNS, paths)
    assert len(answers(html)) == 2
    assert html.count('role="alert"') == 1
    assert "torn.png: is damaged" in text_of(html)
    assert html.index("1.png") < html.index("torn.png") < html.rindex("1.png")


class Oracle:
    """A model that always answers the same."""

    preprocess, multi_label = SimpleNamespace(resize=32, interpolation="bicubic"), False

    def __init__(self, **shares):
        self.ranked = list(shares.items())

    def predict(self, pixels):
        return self.ranked


def asked(fruits, paths=None, **shares):
    visitor = Session(trained_model=TrainedModel(Oracle(**shares), FINISHED))
    return test.predict_files(visitor, TURNS, paths or [str(fruits / "red/1.png")])


@pytest.mark.parametrize(
    ("share", "verdict"),
    [(0.94, "rose, 94 %"), (0.6, "rose, 60 %"), (0.599, "Not sure; perhaps rose"), (0.5, "Not sure; perhaps rose")],
)
def test_below_the_border_the_answer_is_not_sure(fruits, share, verdict):
    ((said, _),) = answers(asked(fruits, rose=share, tulip=1 - share))
    assert said == verdict


def test_many_classes_get_six_bars_and_a_count(fruits):
    html = asked(fruits, **{f"class{i}": 0.125 for i in range(8)})
    ((_, bars),) = answers(html)
    assert [name for name, _ in bars] == [f"class{i}" for i in range(6)]
    assert "and 2 less likely" in text_of(html)
    assert "less likely" not in asked(fruits, **{f"class{i}": 0.2 for i in range(6)})


def test_too_many_images_are_shown_and_answered_in_part_and_that_is_said(fruits, monkeypatch):
    monkeypatch.setattr(answers_view, "MAX_SHOWN_IMAGES", 3)
    monkeypatch.setattr(test, "MAX_IMAGES", 5)
    html = asked(fruits, [str(fruits / "red/1.png")] * 7, rose=1.0)
    assert len(answers(html)) == 3
    assert "The first 5 of 7 images were answered. The first 3 of 5 are shown" in text_of(html)
    assert len(table_of(html)) == 1 + 5


def table_of(html):
    """The rows of the table to download."""
    content = re.search(r'href="data:text/csv;base64,(.*?)"', html)[1]
    return list(csv.reader(io.StringIO(base64.b64decode(content).decode("utf-8-sig"), newline="")))


def test_many_images_come_as_a_table_too_in_which_no_cell_is_a_formula(fruits):
    shares = {"rose": 0.7, "=1+1": 0.3}
    heads, *rows = table_of(asked(fruits, [str(fruits / f"red/{i}.png") for i in (1, 2)], **shares))
    assert heads == ["file", "answer", "most likely", "its probability", "'=1+1", "rose"]
    assert rows == [[f"{i}.png", "rose", "rose", "0.7000", "0.3000", "0.7000"] for i in (1, 2)]
    assert "csv" not in asked(fruits, **shares)  # of one image everything stands there


def test_another_border_of_what_is_sure_labels_the_same_answers_anew(fruits):
    model = Oracle(rose=0.6, tulip=0.4)
    visitor = Session(trained_model=TrainedModel(model, FINISHED))
    test.predict_files(visitor, TURNS, [str(fruits / "red/1.png")] * 2)
    model.ranked = None  # nothing is classified again
    html = test.rerender_answers(visitor, 0.7)
    assert [said for said, _ in answers(html)] == ["Not sure; perhaps rose"] * 2
    assert [row[1] for row in table_of(html)[1:]] == ["not sure"] * 2
    assert [said for said, _ in answers(test.rerender_answers(visitor, 0.6))] == ["rose, 60 %"] * 2


def test_answers_of_a_former_model_do_not_stay(fruits):
    paths = [str(fruits / "red/1.png")]
    visitor = Session(trained_model=TrainedModel(Oracle(rose=1.0), FINISHED))
    assert "rose" in test.predict_files(visitor, TURNS, paths)
    assert "answers" not in str(test.refresh_answers(visitor, TURNS, paths))
    visitor.trained_model = TrainedModel(Oracle(tulip=1.0), FINISHED)
    assert answers(test.refresh_answers(visitor, TURNS, paths))[0][0] == "tulip, 100 %"


def test_what_the_camera_sees_is_answered_and_before_a_training_says_why_not(fruits):
    frame = Image.open(fruits / "red/1.png")
    visitor = Session(trained_model=TrainedModel(Oracle(rose=0.9, tulip=0.1), FINISHED))
    assert answers(test.predict_frame(visitor, TURNS, frame))[0][0] == "rose, 90 %"
    assert is_error(test.predict_frame(Session(), TURNS, frame))
    assert not isinstance(test.predict_frame(visitor, TURNS, None), str)


def test_pasted_images_are_answered_under_their_names_and_let_go_of(fruits, upload):
    visitor = Session(trained_model=TrainedModel(Oracle(rose=1.0), FINISHED))
    files = upload({"one <b>.png": fruits / "red/1.png", "two.png": fruits / "red/2.png"})
    html = test.predict_pasted(visitor, TURNS, parse_files_upload(SimpleNamespace(files=files)))
    assert len(answers(html)) == 2 and "one &lt;b&gt;.png" in html
    assert not [path for path in upload.home.rglob("*") if path.is_file()]
    for wrong in (None, [{"name": "a", "path": "/etc/passwd"}], "x"):
        assert is_error(test.predict_pasted(visitor, TURNS, parse_files_upload(SimpleNamespace(files=wrong))))


# What it gets wrong

CODE = "<img src=x onerror=alert(1)> ${7*7} {{value}}"


@pytest.fixture
def judged(trained, loaded_fruits):
    """Somebody whose model is judged by images of which one has the wrong label, red/1.png that of green."""
    place = next(i for i, names in enumerate(loaded_fruits.label_names) if names == ("red",))
    visitor = Session(images=loaded_fruits.relabel(place, "green"), trained_model=trained.visitor.trained_model)
    visitor.wrong = loaded_fruits.paths[place]
    visitor.rows = list(judging.evaluate_held_out(visitor, TURNS))
    return visitor


def last(rows):
    """The values of ``Judging.shown`` in the end, by name."""
    now = list(rows)[-1]
    told = now.summary.replace("\u00a0", " ") if isinstance(now.summary, str) else now.summary
    return SimpleNamespace(told=told, matrix=now.confusion_matrix, figures=now.class_metrics, mistakes=now.mistakes)


def pressed(visitor, **asked):
    return last([judging.handle_click(visitor, parse_analysis_click(SimpleNamespace(**asked)))])


def label_of(visitor, path):
    return visitor.images.label_names[visitor.images.paths.index(path)] if path in visitor.images.paths else None


def test_a_model_is_judged_by_what_was_held_back_from_it(trained):
    assert judging.refresh(trained.visitor).evaluate_button.interactive
    shown = last(judging.evaluate_held_out(trained.visitor, TURNS))
    kept, words = trained.visitor.job.run.kept, text_of(shown.told)
    assert f"Of {kept.total} validation images that were held back" in words and f"{kept.correct} right" in words
    assert "between" in words and "Always answering the largest class would get 33 %" in words
    assert [row[0] for row in shown.figures.value["data"]] == ["blue", "green", "red"]
    assert [row[4] for row in shown.figures.value["data"]] == [1, 1, 1]


def test_a_model_without_a_lesson_is_judged_by_what_it_has_learned_from_and_that_is_said(judged):
    shown = last(judged.rows)
    assert "Of your 12 images: 11 right" in text_of(shown.told)
    assert "9 of these 12 images were learned from, so the figures flatter." in text_of(shown.told)
    assert "green" in text_of(shown.mistakes) and "answered red" in text_of(shown.mistakes)
    assert f'data-image="{judged.wrong.stem}"' in shown.mistakes
    assert "Relabel as red" in text_of(shown.mistakes) and "train again" in text_of(shown.mistakes)


def test_a_cell_shows_its_images_and_hides_them_again(judged):
    names = judged.trained_model.model.classes
    cell = {"do": "cell", "given": str(names.index("green")), "answered": str(names.index("red"))}
    shown = pressed(judged, **cell)
    assert "1 image: green, answered red" in text_of(shown.matrix) and 'aria-pressed="true"' in shown.matrix
    assert shown.matrix.count("<figure>") == 1 and "Relabel as red" in text_of(shown.matrix)
    assert "<figure>" not in pressed(judged, **cell).matrix


@pytest.mark.parametrize(
    "asked",
    [
        {"do": "cell", "given": "99", "answered": "0"},
        {"do": "cell", "given": "-1", "answered": "0"},
        {"do": "cell", "given": None, "answered": "x"},
        {"do": "relabel", "image": "../../etc/passwd"},
        {"do": "remove", "image": ["a"]},
        {"do": "unheard"},
        {},
    ],
)
def test_a_press_on_what_does_not_exist_changes_nothing(judged, asked):
    before = judged.images
    assert "<figure>" not in pressed(judged, **asked).matrix
    assert judged.images is before


def test_a_mistake_is_relabelled_by_a_press_and_that_can_be_undone(judged):
    before = judged.images
    shown = pressed(judged, do="relabel", image=judged.wrong.stem)
    assert label_of(judged, judged.wrong) == ("red",)
    assert "Now red. Train again to use it." in text_of(shown.mistakes)
    assert "Relabel" not in re.sub(r"<p.*?</p>", "", shown.mistakes)
    judged.undo_image_change()
    assert judged.images is before
    assert "Relabel as red" in text_of(last([judging.refresh(judged)]).mistakes)


def test_a_mistake_is_removed_by_a_press(judged):
    shown = pressed(judged, do="remove", image=judged.wrong.stem)
    assert label_of(judged, judged.wrong) is None and len(judged.images) == 11
    assert "Removed. Train again to use it." in text_of(shown.mistakes)
    pressed(judged, do="remove", image=judged.wrong.stem)  # twice
    assert len(judged.images) == 11


def test_an_image_that_cannot_be_read_costs_itself_alone(trained, fruits):
    images = load_images(fruits, store_bytes=0)  # so that each is read again
    images.paths[0].unlink()
    images.paths[0].write_bytes(b"torn")
    visitor = Session(images=images, trained_model=trained.visitor.trained_model)
    shown = last(judging.evaluate_held_out(visitor, TURNS))
    assert "your 11 images" in text_of(shown.told)
    assert f"cannot be read: {images.names[0]}: " in text_of(shown.told)
    for path in images.paths:
        path.unlink()
    assert "It cannot be read any more" in pressed(visitor, do="cell", given="0", answered="0").matrix
    assert is_error(last(judging.evaluate_held_out(visitor, TURNS)).told)


def zipped(folder, file):
    with zipfile.ZipFile(file, "w") as archive:
        for path in folder.rglob("*.png"):
            archive.write(path, f"set/{path.relative_to(folder).as_posix()}")
    return file


@pytest.mark.parametrize("way", ["zip", "folder"])
def test_a_test_set_is_judged_and_never_joins_the_images(trained, fruits, upload, tmp_path, way):
    if way == "zip":
        files = upload({"set.zip": zipped(fruits, tmp_path / "set.zip")})
    else:
        files = upload({f"set/{p.parent.name}/{p.name}": p for p in fruits.rglob("*.png")})
    visitor = Session(images=trained.visitor.images, trained_model=trained.visitor.trained_model)
    before = visitor.images
    shown = last(judging.evaluate_test_set(visitor, TURNS, parse_files_upload(SimpleNamespace(files=files))))
    assert "Of 12 test images that you have sent" in text_of(shown.told)
    assert "Relabel" not in shown.mistakes + shown.matrix
    assert visitor.images is before and visitor.previous_images is None
    assert not [path for path in upload.home.rglob("*") if path.is_file()]


def test_a_folder_with_halves_judges_by_its_test_folder_and_says_so(trained, fruits, upload):
    pictures = sorted(fruits.rglob("*.png"))
    files = {f"set/{half}/{p.parent.name}/{half}{p.name}": p for half in ("train", "Testing") for p in pictures}
    visitor = Session(images=trained.visitor.images, trained_model=trained.visitor.trained_model)
    told = text_of(
        last(judging.evaluate_test_set(visitor, TURNS, parse_files_upload(SimpleNamespace(files=upload(files))))).told
    )
    assert "Of 12 test images that you have sent" in told
    assert "Judged by Testing/: 12 images. train/ is left out." in told


def test_a_test_set_of_other_classes_says_so_in_its_place(trained, flowers, upload):
    files = upload({f"set/{CODE}/{p.name}": p for p in flowers.rglob("*") if p.is_file()})
    visitor = Session(trained_model=trained.visitor.trained_model)
    told = last(judging.evaluate_test_set(visitor, TURNS, parse_files_upload(SimpleNamespace(files=files)))).told
    assert is_error(told) and "which the model does not know" in text_of(told) and "<img" not in told
    for wrong in (None, [], [{"name": "a.zip", "path": "/etc/passwd"}]):
        assert is_error(
            last(judging.evaluate_test_set(visitor, TURNS, parse_files_upload(SimpleNamespace(files=wrong)))).told
        )


def test_nobody_waits_while_it_is_said_that_the_images_have_gone(trained, fruits):
    turns, images = Scheduler(), load_images(fruits)
    visitor = Session(images=images, trained_model=trained.visitor.trained_model)
    images.close()
    told = judging.evaluate_held_out(visitor, turns)
    assert "have been let go of" in text_of(next(told).summary)
    assert turns.is_idle  # whoever listens has not asked for more yet
    assert list(told) == []


def test_whatever_is_told_while_it_judges_nobody_has_the_turn(trained, loaded_fruits, monkeypatch):
    turns = Scheduler()
    monkeypatch.setattr(judging, "PROGRESS_INTERVAL", 0)
    monkeypatch.setattr(judging, "BATCH_SIZE", 1)
    visitor = Session(images=loaded_fruits, trained_model=trained.visitor.trained_model)
    idle = [turns.is_idle for _ in judging.evaluate_held_out(visitor, turns)]
    assert len(idle) > 5 and all(idle)


def test_without_a_model_or_images_nothing_can_be_judged_and_that_is_said(visitor, trained):
    assert not judging.refresh(visitor).evaluate_button.interactive
    assert is_error(last(judging.evaluate_held_out(visitor, TURNS)).told)
    opened = Session(trained_model=trained.visitor.trained_model)
    now = judging.refresh(opened)
    assert not now.evaluate_button.interactive and "There are no images" in text_of(now.summary)
    assert is_error(last(judging.evaluate_held_out(opened, TURNS)).told)


def test_what_was_judged_goes_with_its_model_and_with_its_images(judged):
    judged.set_images(judged.images.without([0]))
    assert judged.error_analysis is not None  # the same files still
    judged.clear_images()
    assert judged.error_analysis is None
    assert "Judge it again" in text_of(pressed(judged, do="cell").told)


def test_a_name_that_is_code_is_only_a_name(judged):
    judged.set_images(judged.images.rename_class("green", CODE))
    told = last(judging.evaluate_held_out(judged, TURNS)).told
    assert is_error(told) and CODE in text_of(told) and "<img" not in told


# Several labels an image


def test_a_training_with_several_labels_is_judged_by_precision_and_answers_with_labels(tagged, fruits):
    visitor = Session(images=tagged)
    train.start_training(visitor, Scheduler(), 1, 0, 1)
    *_, last_drawn = run_view.watch_training(visitor)
    words, charts = last_drawn.status, last_drawn.charts
    assert visitor.job.run.state == "finished", visitor.job.run.problem
    assert "mean average precision" in text_of(words)
    for label in tagged.classes:
        assert label in text_of(words)
    assert "Mean average precision" in text_of(charts)
    assert "with all their labels" in text_of(test.refresh(visitor).status)
    path = str(fruits / "red/1.png")
    ((verdict, bars),) = answers(test.predict_files(visitor, TURNS, [path]))
    model = visitor.trained_model.model
    assert verdict == (text.join_names(model.predict_labels(path)) or "None of the labels")
    assert bars == [(name, f"{share:.1%}") for name, share in model.predict(path)]
    shown = last(judging.evaluate_held_out(visitor, TURNS))
    words = text_of(shown.told)
    assert "with all their labels" in words and "The mean average precision is" in words
    assert shown.figures.headers[-1] == "Average precision"
    for given, answered in re.findall(r'data-given="(-?\d+)" data-answered="(-?\d+)"', shown.matrix):
        opened = pressed(visitor, do="cell", given=given, answered=answered)
        assert opened.matrix.count("<figure>") >= 1
        visitor.error_analysis = judging.replace(visitor.error_analysis, selected_cell=None)
    for mistake in visitor.error_analysis.evaluation.mistakes[:1]:
        before, path = (
            set(visitor.error_analysis.images.label_names[mistake.index]),
            visitor.error_analysis.images.paths[mistake.index],
        )
        shown = pressed(visitor, do="relabel", image=path.stem)
        assert set(label_of(visitor, path)) == before ^ {mistake.true_label or mistake.predicted_label}
        assert "Train again to use it" in text_of(shown.mistakes)
