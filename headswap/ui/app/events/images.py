"""Events of the Images step: loading, editing and discarding images."""

from __future__ import annotations

from headswap.ui.app.events.binder import EventBinder
from headswap.ui.panels.browser_events import parse_dataset_edit, parse_images_upload
from headswap.ui.steps import images as images_step
from headswap.ui.steps.images import ImagesStep


def bind_images_step(binder: EventBinder, images: ImagesStep) -> None:
    """Bind the sample, the picker with its stop, edits of the dataset, and the way to the next step."""
    outputs = images.outputs
    loading = [
        binder.bind(images.sample_button.click, images_step.load_sample, outputs=outputs, components=images),
        binder.bind_browser_event(
            images.picker.submit, parse_images_upload, images_step.load_uploads, outputs=outputs, components=images
        ),
    ]
    images.picker.stop(
        binder.with_session(images_step.refresh, images),
        binder.ticket,
        outputs,
        cancels=[*loading],
        show_progress="hidden",
    )
    edited = binder.bind_browser_event(
        images.dataset_summary.submit,
        parse_dataset_edit,
        images_step.edit_dataset,
        outputs=outputs,
        components=images,
    )
    for changed in (*loading, edited):
        binder.update_tabs_after(changed)
    binder.select_tab(images.next_button.click, "model")
