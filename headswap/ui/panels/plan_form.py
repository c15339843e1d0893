"""Form for the plan of the next training: epochs, unfrozen stages and the head's learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import gradio as gr

from headswap.training.plan import HEAD_PHASE, Plan
from headswap.ui.panels import lr_finder
from headswap.ui.panels.help_notes import build_note
from headswap.ui.panels.lr_finder import LrFinderPanel
from headswap.ui.sessions.next_training import get_head_and_unfrozen_phases
from headswap.ui.sessions.session import Session

MAX_STAGES = 14  # of any network, until one is known


@dataclass(frozen=True)
class PlanForm:
    """The components."""

    head_epochs: gr.Slider
    unfrozen_stages: gr.Slider
    unfrozen_epochs: gr.Slider
    head_lr: gr.Number
    lr_panel: LrFinderPanel

    @property
    def sliders(self) -> list[gr.Slider]:
        """What a ``PlanUpdate`` changes."""
        return [self.head_epochs, self.unfrozen_stages, self.unfrozen_epochs]

    @property
    def inputs(self) -> Sequence[gr.Slider | gr.Number]:
        """The values of a ``TrainingRequest``, in order."""
        return [*self.sliders, self.head_lr]


@dataclass(frozen=True)
class PlanUpdate:
    """New values of components of ``PlanForm``, by their names; None leaves one as it is."""

    head_epochs: gr.Slider | None = None
    unfrozen_stages: gr.Slider | None = None
    unfrozen_epochs: gr.Slider | None = None


def build() -> PlanForm:
    """The components, without events."""
    head_epochs = _build_slider(1, 200, "Epochs in which only the head learns", "head-epochs")
    unfrozen_stages = _build_slider(0, MAX_STAGES, "Then so many of the last stages learn, too", "stages")
    unfrozen_epochs = _build_slider(1, 100, "Epochs in which they learn", "stage-epochs")
    label = "Highest learning rate while only the head learns"
    head_lr = gr.Number(HEAD_PHASE.head_lr, minimum=1e-6, maximum=1, step=1e-4, label=label, elem_id="head-rate")
    build_note("head-rate")
    return PlanForm(head_epochs, unfrozen_stages, unfrozen_epochs, head_lr, lr_finder.build())


def show_plan(plan: Plan, num_stages: int) -> PlanUpdate:
    """Set the sliders to a plan for a network with so many freezable stages."""
    head, unfrozen = get_head_and_unfrozen_phases(plan)
    unfrozen_stages = num_stages if unfrozen.learning_stages is None else unfrozen.learning_stages
    return PlanUpdate(
        gr.Slider(value=head.epochs),
        gr.Slider(value=unfrozen_stages, maximum=num_stages),
        gr.Slider(value=unfrozen.epochs),
    )


def show_job_plan(session: Session) -> PlanUpdate:
    """Set the sliders to the plan of the session's last training, which a page that was reloaded has forgotten."""
    job = session.job
    setup = job and (job.training_setup or (job.previous_job and job.previous_job.training_setup))
    if job is None or not setup:
        return PlanUpdate()
    num_stages = len(job.outline) or MAX_STAGES
    update = show_plan(setup.plan, num_stages)
    if session.num_unfrozen_stages is not None and not session.is_training:
        return replace(update, unfrozen_stages=show_unfrozen_stages(session.num_unfrozen_stages, num_stages))
    return update


def show_unfrozen_stages(num_unfrozen: int, num_stages: int) -> gr.Slider:
    """Set the slider of the unfrozen stages, at most to all of them."""
    return gr.Slider(value=min(num_unfrozen, num_stages), maximum=num_stages)


def _build_slider(minimum: int, maximum: int, label: str, elem_id: str) -> gr.Slider:
    slider = gr.Slider(minimum, maximum, step=1, label=label, elem_id=elem_id)
    build_note(elem_id)
    return slider
