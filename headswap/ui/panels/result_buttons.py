"""Buttons that exchange a training's result: for another candidate of the run, or for a refit on all images."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from headswap.ui.panels.help_notes import build_note
from headswap.ui.sessions.job import Job
from headswap.ui.sessions.session import Session


@dataclass(frozen=True)
class ResultButtons:
    """The components."""

    keep_frozen: gr.Button
    keep_reference: gr.Button
    keep_trained: gr.Button
    refit: gr.Button

    @property
    def outputs(self) -> list[gr.Button]:
        """What a ``ResultButtonsUpdate`` changes."""
        return [self.keep_frozen, self.keep_reference, self.keep_trained, self.refit]

    @property
    def by_candidate(self) -> dict[str, gr.Button]:
        """The buttons that restore a candidate, by its name."""
        return {"frozen": self.keep_frozen, "reference": self.keep_reference, "own": self.keep_trained}


@dataclass(frozen=True)
class ResultButtonsUpdate:
    """New values of the components of ``ResultButtons``, by their names."""

    keep_frozen: gr.Button
    keep_reference: gr.Button
    keep_trained: gr.Button
    refit: gr.Button


def build() -> ResultButtons:
    """The components, without events."""
    with gr.Row(elem_id="instead"):
        buttons = ResultButtons(
            gr.Button("Keep the frozen network instead", visible=False, elem_id="keep-frozen"),
            gr.Button("Keep the head solved at once instead", visible=False, elem_id="keep-reference"),
            gr.Button(visible=False, elem_id="keep-own"),
            gr.Button("Learn again from all images", visible=False, elem_id="again"),
        )
    build_note("instead")
    return buttons


def refresh(session: Session) -> ResultButtonsUpdate:
    """Show the buttons of what the last training offers in place of its result."""
    trained = session.trained_in_current_job
    candidates = trained.available_candidates if trained else ()
    trained_part = "unfrozen network" if trained and trained.trained_stages_of_run else "trained head"
    return ResultButtonsUpdate(
        keep_frozen=gr.Button(visible="frozen" in candidates),
        keep_reference=gr.Button(visible="reference" in candidates),
        keep_trained=gr.Button(f"Keep the {trained_part} after all", visible="own" in candidates),
        refit=gr.Button(visible=find_refittable_job(session) is not None),
    )


def find_refittable_job(session: Session) -> Job | None:
    """The job that has ended, if its result can be trained once more on all images; None otherwise."""
    trained, job = session.trained_in_current_job, session.job
    if job is None or job.training_setup is None or trained is None or trained.run is None:
        return None
    kept = trained.run.kept
    return job if kept is not None and not kept.refitted and not trained.active_candidate else None
