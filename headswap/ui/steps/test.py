"""The fourth step: new images in, their classes with probabilities out. Knows nothing of how the model learned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from headswap.common.errors import InputError, PictureError
from headswap.common.text import count, harmless, listed, percent
from headswap.data.decoding import read_pixels
from headswap.data.label_tables import written
from headswap.data.sources import ENDINGS
from headswap.networks.classifier import Classifier
from headswap.ui.panels import held_out_samples, mistakes
from headswap.ui.panels.help_notes import note
from headswap.ui.panels.mistakes import Judging
from headswap.ui.panels.picker import forget, received
from headswap.ui.sessions.chosen_network import preview
from headswap.ui.sessions.job import Turns
from headswap.ui.sessions.session import Answer, Answers, Visitor
from headswap.ui.static.assets import read_static
from headswap.ui.views.html import data_address, problem_card, thumbnail
from headswap.ui.views.network import draw, head_title, title

MOST = 300  # images at once
SHOWN = 50  # of them with their bars; the table has all
BARS = 6  # for each image
NOTHING = "No model has learned anything yet. Press Train in the third step, or open one that you kept in the fifth."
TOO_EARLY = "No model has learned anything yet. Press Train in the third step, then drop the images again."
UNSURE = 0.6  # of two classes one always gets a half
CAMERA = {"video": {"width": {"ideal": 320}, "height": {"ideal": 240}}}
EVERY = 1.0  # seconds between two looks of the camera


@dataclass(frozen=True)
class TestStep:
    """The step's components."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    strip: gr.HTML
    state: gr.HTML
    files: gr.File
    camera: gr.Image
    tries: gr.HTML
    unsure: gr.Slider
    answers: gr.HTML
    judging: Judging
    onward: gr.Button

    @property
    def ready(self) -> list[gr.components.Component]:
        """What ``prepare`` gives, in order."""
        return [self.strip, self.state, self.tries, self.unsure]


def build() -> TestStep:
    """The step's components, without events."""
    drawing = gr.HTML(elem_id="test-strip", apply_default_css=False)
    state = gr.HTML(elem_id="test-state", apply_default_css=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            with gr.Tabs(elem_id="test-ways"):
                with gr.Tab("Files"):
                    files = gr.File(
                        file_count="multiple",
                        file_types=["image", *sorted(ENDINGS)],
                        label="Drop new images here, or paste them",
                        elem_id="new-images",
                        height=180,
                    )
                with gr.Tab("Camera"):
                    camera = gr.Image(
                        sources=["webcam"],
                        streaming=True,
                        type="pil",
                        format="jpeg",
                        label="The camera: an answer about once a second",
                        webcam_options=gr.WebcamOptions(mirror=False, constraints=CAMERA),
                        height=280,
                        elem_id="test-camera",
                    )
                    gr.HTML(
                        '<p class="hs-rest">A browser lends its camera only to this computer itself or over https.</p>',
                        apply_default_css=False,
                    )
            note("new-images")
            held_back = held_out_samples.build("test-tries")
            unsure = gr.Slider(0, 1, UNSURE, step=0.05, label="Below this the answer is 'not sure'", elem_id="unsure")
            note("unsure")
        with gr.Column(scale=3, min_width=300):
            answers = gr.HTML(
                _hint(),
                js_on_load=read_static("pasting.js"),
                elem_id="answers",
                apply_default_css=False,
            )
    judged = mistakes.build()
    onward = gr.Button("Go on and take it along", variant="primary", elem_id="onward-keep")
    return TestStep(drawing, state, files, camera, held_back, unsure, answers, judged, onward)


def _hint() -> str:
    return '<p class="hs-card hs-hint">The answers appear here: a bar for each class, and how sure the model is.</p>'


def prepare(visitor: Visitor) -> tuple[Any, ...]:
    """The model that would answer, and what can be tried: values for ``TestStep.ready``."""
    if visitor.trained is None:
        missing = f"<p class='hs-sentence'>{NOTHING}</p>"
        model = preview(visitor.choice, visitor.classes)
        return draw(model, model.outline(), ()), missing, "", gr.Slider(visible=True)
    model, figures = visitor.trained.model, visitor.trained.figures
    it = "before it learned again from all images, it" if model.record and model.record.refitted else "it"
    rightly = "with all their labels" if model.multi_label else "rightly"
    named = f"; {it} named {figures.right} of {figures.of} validation images {rightly}" if figures else ""
    words = (
        f"<p class='hs-sentence'>{title(model.backbone)} answers through its {head_title(model)} head{named}. "
        f"It knows <b>{escape(listed(model.classes, most=8))}</b> and nothing else.</p>"
    )
    # Of several labels each has a threshold of its own.
    strip = draw(model, model.outline(), visitor.trained.learned)
    return strip, words, held_out_samples.offered(visitor), gr.Slider(visible=not model.multi_label)


def classify(visitor: Visitor, turns: Turns, paths: Sequence[str] | None, unsure: float = UNSURE) -> str:
    """The answers for uploaded images, as HTML; an image that cannot be read says so in its place."""
    return _classify(visitor, turns, [(Path(path).name, Path(path)) for path in paths or ()], unsure)


def paste(visitor: Visitor, turns: Turns, sent: object, unsure: float = UNSURE) -> str:
    """The answers for images that were pasted, which are let go of once they have been read."""
    uploads: list[Any] = []
    try:
        uploads.extend(received(getattr(sent, "files", None)))
        named = [(harmless(Path(upload.name).name) or "pasted", upload.path) for upload in uploads]
        return _classify(visitor, turns, named, unsure)
    except InputError as error:
        return problem_card(str(error))
    finally:
        forget(uploads)


def try_one(visitor: Visitor, turns: Turns, sent: object, unsure: float = UNSURE) -> Any:
    """The answer for an image that was held back and pressed."""
    found = held_out_samples.pressed(visitor, sent)
    if found is None:
        return gr.skip()
    shows, path = found
    with turns.beside():
        answer = _answer(visitor.trained.model, f"An image of {shows}", path)
    visitor.answers = Answers(visitor.trained, (replace(answer, shows=shows),), 1)
    return _told(visitor.answers, unsure)


def return_to(visitor: Visitor, turns: Turns, paths: Sequence[str] | None, unsure: float = UNSURE) -> Any:
    """The answers again, if another model gave those that are shown."""
    if visitor.answers is None or visitor.answers.by is visitor.trained:
        return gr.skip()
    return classify(visitor, turns, paths, unsure)


def tell(visitor: Visitor, unsure: float) -> Any:
    """The same answers with another border of what is sure."""
    if visitor.answers is None:
        return gr.skip()
    return _told(visitor.answers, unsure)


def look(visitor: Visitor, turns: Turns, frame: Image.Image | None, unsure: float = UNSURE) -> Any:
    """The answer to what the camera sees now."""
    if frame is None:
        return gr.skip()
    if visitor.trained is None:
        return problem_card(NOTHING)
    with turns.beside():
        answer = _answer(visitor.trained.model, "what the camera sees", frame)
    visitor.answers = Answers(visitor.trained, (answer,), 1)
    return _told(visitor.answers, unsure)


def _classify(visitor: Visitor, turns: Turns, named: Sequence[tuple[str, Path]], unsure: float) -> str:
    if not named:
        visitor.answers = None
        return _hint()
    trained, answers = visitor.trained, []
    if trained is None:
        return problem_card(TOO_EARLY)
    for name, path in named[:MOST]:
        with turns.beside():
            answers.append(_answer(trained.model, name, path))
    visitor.answers = Answers(trained, tuple(answers), len(named))
    return _told(visitor.answers, unsure)


def _answer(model: Classifier, name: str, picture: Path | Image.Image) -> Answer:
    try:
        pixels = read_pixels(picture, model.preprocess.resize, model.preprocess.interpolation)
    except PictureError as error:
        return Answer(name, problem=str(PictureError(name, error.reason)))
    except InputError as error:
        return Answer(name, problem=str(error))
    labels = tuple(model.labels(pixels)) if model.multi_label else None
    return Answer(name, thumbnail(pixels, 160), tuple(model.predict(pixels)), labels)


def _told(answers: Answers, unsure: float) -> str:
    shown, read = answers.each[:SHOWN], [answer for answer in answers.each if answer.ranked]
    words = []
    if answers.of > len(answers.each):
        words.append(f"The first {len(answers.each)} of {answers.of:,} images were answered.")
    if len(answers.each) > len(shown):
        words.append(f"The first {len(shown)} of {len(answers.each)} are shown; the table has all of them.")
    elif len(read) > 1:
        words.append(f"{count(len(read), 'image')} answered.")
    head = ""
    if len(read) > 1:
        link = f'<a class="hs-button" download="answers.csv" href="{_table(read, unsure)}">Download as a table</a>'
        head = f'<div class="hs-heading"><p class="hs-sentence">{" ".join(words)}</p>{link}</div>'
    return f'<div role="status">{head}{"".join(_shown(answer, unsure) for answer in shown)}</div>'


def _table(answers: Iterable[Answer], unsure: float) -> str:
    """All answers as a CSV, the classes in one order: those of the first answer, by name."""
    answers = list(answers)
    names = sorted(name for name, _ in answers[0].ranked)
    rows = []
    for answer in answers:
        shares = dict(answer.ranked)
        best, share = answer.ranked[0]
        said = best if share >= unsure else "not sure"
        if answer.labels is not None:
            said = ";".join(answer.labels)
        rows.append((answer.name, said, best, f"{share:.4f}", *(f"{shares[name]:.4f}" for name in names)))
    text = written(("file", "answer", "most likely", "its probability", *names), rows)
    return data_address(text.encode("utf-8-sig"), "text/csv")


def _shown(answer: Answer, unsure: float) -> str:
    if answer.problem:
        return problem_card(answer.problem)
    bars = "".join(_bar(name, probability) for name, probability in answer.ranked[:BARS])
    rest = len(answer.ranked) - BARS
    more = f"<p class='hs-rest'>and {rest} less likely</p>" if rest > 0 else ""
    if answer.shows:
        more += f"<p class='hs-rest'>Its label says <b>{escape(answer.shows)}</b>.</p>"
    return (
        f'<article class="hs-card hs-answer"><img alt="{escape(answer.name)}" title="{escape(answer.name)}" '
        f'src="{answer.picture}"><div><p class="hs-verdict">{_verdict(answer, unsure)}</p>{bars}{more}</div></article>'
    )


def _verdict(answer: Answer, unsure: float) -> str:
    if answer.labels is not None:
        return escape(listed(answer.labels)) or "None of the labels"
    best, share = answer.ranked[0]
    return f"{escape(best)}, {percent(share)}" if share >= unsure else f"Not sure; perhaps {escape(best)}"


def _bar(name: str, probability: float) -> str:
    return (
        f'<div class="hs-bar-row"><span class="hs-bar-name" title="{escape(name)}">{escape(name)}</span>'
        f'<span class="hs-bar-track"><span style="width:{probability:.1%}"></span></span>'
        f'<span class="hs-bar-figure">{percent(probability)}</span></div>'
    )
