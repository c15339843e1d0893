"""Events of the Test step: predictions for new images, and evaluation with correction of mistakes."""

from __future__ import annotations

from headswap.ui.app.events.binder import EventBinder
from headswap.ui.panels import mistakes
from headswap.ui.panels.browser_events import parse_analysis_click, parse_files_upload, parse_sample_click
from headswap.ui.steps import images as images_step
from headswap.ui.steps import test as test_step
from headswap.ui.steps.images import ImagesStep
from headswap.ui.steps.test import TestStep
from headswap.ui.steps.train import TrainStep


def bind_test_step(binder: EventBinder, testing: TestStep, images: ImagesStep, training: TrainStep) -> None:
    """Bind all controls of the step, and the Train step's held-out samples, whose prediction is shown here."""
    files, threshold, answers = testing.files, testing.threshold, [testing.answers]
    scheduled = binder.with_scheduler
    panel = testing.mistakes_panel
    shown = binder.bind(
        binder.step_tabs.test.select, test_step.refresh, outputs=testing.refresh_outputs, components=testing
    )
    judged = binder.bind(shown.then, mistakes.refresh, outputs=panel.outputs, components=panel)
    binder.bind(judged.then, scheduled(test_step.refresh_answers), [files, threshold], answers)
    binder.bind(files.change, scheduled(test_step.predict_files), [files, threshold], answers, show_progress="full")
    binder.bind_browser_event(
        testing.answers.submit,
        parse_files_upload,
        scheduled(test_step.predict_pasted),
        [threshold],
        answers,
        show_progress="full",
    )
    for samples in (testing.samples_html, training.samples_html):
        predicted = binder.bind_browser_event(
            samples.submit, parse_sample_click, scheduled(test_step.predict_sample), [threshold], answers
        )
        if samples is training.samples_html:
            binder.select_tab(predicted.then, "test")
    binder.bind(threshold.change, test_step.rerender_answers, [threshold], answers, latest_only=True)
    testing.camera.stream(
        binder.with_session(scheduled(test_step.predict_frame)),
        [binder.ticket, testing.camera, threshold],
        answers,
        stream_every=test_step.CAMERA_INTERVAL,
        show_progress="hidden",
    )
    binder.select_tab(testing.next_button.click, "keep")
    _bind_mistakes(binder, testing, images)


def _bind_mistakes(binder: EventBinder, testing: TestStep, images: ImagesStep) -> None:
    """Bind evaluation, and corrections, which change the dataset of the Images step."""
    panel, scheduled = testing.mistakes_panel, binder.with_scheduler
    binder.bind(
        panel.evaluate_button.click, scheduled(mistakes.evaluate_held_out), outputs=panel.outputs, components=panel
    )
    binder.bind_browser_event(
        panel.test_set.submit,
        parse_files_upload,
        scheduled(mistakes.evaluate_test_set),
        outputs=panel.outputs,
        components=panel,
    )
    for clicked in (panel.confusion_matrix, panel.mistakes):
        corrected = binder.bind_browser_event(
            clicked.submit, parse_analysis_click, mistakes.handle_click, outputs=panel.outputs, components=panel
        )
        binder.update_tabs_after(
            binder.bind(corrected.then, images_step.refresh, outputs=images.outputs, components=images)
        )
