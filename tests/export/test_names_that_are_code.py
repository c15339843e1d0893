"""Names of classes and files that are code: every step shows them as they are, and none runs them."""

import re
import shutil
from html import escape

import pytest
from pictures import load_files
from telling import FINISHED, HEAD, STORY, epoch
from visiting import Reader, choose, text_of

from headswap.common.errors import InputError
from headswap.networks.adaptation import adapt
from headswap.networks.catalogue import DEFAULT_BACKBONE
from headswap.training.events import LabelMetrics
from headswap.ui.panels import run_view
from headswap.ui.sessions.job import Job
from headswap.ui.sessions.run import Run
from headswap.ui.sessions.scheduler import Scheduler
from headswap.ui.sessions.session import Session
from headswap.ui.sessions.state import TrainedModel
from headswap.ui.steps import images, keep, test, train
from headswap.ui.views.run_text import render_run_status

EVIL = ("${x}", '<b>&"', "<script>alert('1')")


@pytest.fixture(scope="module")
def evil(fruits):
    """Somebody whose classes have names that are code, with a model that has trained on them."""
    names = dict(zip(("blue", "green", "red"), EVIL, strict=True))
    pairs = [(f"fruits/{names[file.parent.name]}/{file.name}", file) for file in sorted(fruits.rglob("*.png"))]
    pairs += [('fruits/<b>&"/<img src=x onerror=alert(1)>.txt', fruits), ("fruits/<i>lost/1.png", fruits)]
    visitor = Session(images=load_files(pairs))
    visitor.trained_model = TrainedModel(adapt(DEFAULT_BACKBONE, visitor.classes, pretrained=False), FINISHED)
    return visitor


def texts(update):
    return "".join(value for value in vars(update).values() if isinstance(value, str))


def test_class_names_are_shown_as_they_are_and_never_run(evil, fruits, tmp_path):
    assert set(evil.classes) == set(EVIL)
    shutil.copyfile(fruits / "red/1.png", tmp_path / "it's & ${x}.png")
    pictures, answer = [str(tmp_path / "it's & ${x}.png"), '<b>&".png'], choose(evil)
    everything = {
        "images": images.render_dataset(evil.images),
        "model": "".join((answer.drawing, answer.sentence, answer.problem, answer.seen)),
        "train": texts(train.refresh(evil).run_view),
        "test": texts(test.refresh(evil)),
        "keep": texts(keep.refresh(evil)),
        "answers": test.predict_files(evil, Scheduler(), pictures),
        "error": images.render_problem_card("The class '<b>&\"' has one image."),
    }
    for where, html in everything.items():
        assert '<b>&"' not in html, where
        assert "<script" not in html, where
        assert "onerror" not in " ".join(re.findall(r"<[^<>]*>", html)), where
        assert not Reader(html).tags & {"script", "i"}, where
    for where in ("images", "test", "answers", "keep"):
        for name in EVIL:
            assert escape(name) in everything[where], (where, name)
            assert name in text_of(everything[where]), (where, name)
    assert escape("it's & ${x}.png") in everything["answers"]
    assert "<img src=x onerror=alert(1)>.txt" in text_of(everything["images"])
    assert "'<i>lost' has no image" in text_of(everything["images"])


def test_labels_are_told_as_they_are_and_never_run():
    figures = tuple(LabelMetrics(name, average_precision=0.9, f1=0.8, threshold=0.5) for name in EVIL)
    html = render_run_status(Run("finished", phases=(HEAD,), epochs=(epoch(1, labels=figures),)))
    assert not Reader(html).tags & {"script"}
    assert '<b>&"' not in html
    for name in EVIL:
        assert f"{name} 0.80" in text_of(html)


def test_watching_a_training_of_such_classes_draws_no_code(evil, network):
    def tell(model):
        yield from STORY[:-1]
        raise InputError(f"The class '{EVIL[1]}' is not one of {EVIL[2]}.")

    visitor = Session(images=evil.images)
    visitor.job = Job(lambda progress: network, tell, Scheduler())
    html = "".join(texts(update) for update in run_view.watch_training(visitor))
    assert EVIL[1] not in html
    assert EVIL[2] in text_of(html)
    assert "script" not in Reader(html).tags
