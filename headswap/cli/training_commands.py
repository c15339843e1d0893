"""The commands that train: ``check`` the images, ``train`` one model, or ``race`` several heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer

from headswap.cli.console import EXIT_INTERRUPTED, console, print_json_line, print_line, print_text_or_json
from headswap.cli.inputs import (
    BackboneOption,
    ClassifyOption,
    FolderArgument,
    JsonOption,
    OutOption,
    adapt_backbone,
    check_writable,
    is_given,
    load_and_add_classes,
    load_images,
    parse_head_options,
    resolve_existing_images,
    translate_option_errors,
)
from headswap.cli.interruption import InterruptHandler
from headswap.cli.model_commands import classify_files
from headswap.cli.terminal import OutputFormat, ProgressEvent, show_events
from headswap.data.checks import check
from headswap.export.model_file import save
from headswap.networks.catalogue import DEFAULT_BACKBONE
from headswap.networks.classifier import Classifier
from headswap.networks.head_registry import HEADS
from headswap.training.api import refit, train
from headswap.training.checkpoints import restore
from headswap.training.cross_validation import cross_validate
from headswap.training.events import Kept
from headswap.training.plan import NAMED_PLANS, Plan
from headswap.training.race import DEFAULT_RACE_HEADS, Lap, Won, race, select_best_model
from headswap.training.record import Record

ABORTED_MESSAGE = "Ended at once. What was learned and not yet written is lost."
SUGGESTED_PLAN = "suggested"
MAX_SHOWN_GROUPS = 10  # of images, for each finding


class OtherWeights(str, Enum):
    """Names of candidates of a training, as ``Kept.candidates`` has them."""

    FROZEN, REFERENCE = "frozen", "reference"


HeadOption = Annotated[str, typer.Option(help=f"One of {', '.join(HEADS)}.")]
HeadOptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="Option of the head, such as dropout=0.2 or hidden_dims=512,256; listed by `headswap heads`. May be given "
        "several times.",
    ),
]
PlanOption = Annotated[
    str, typer.Option("--plan", help=f"Training plan: {SUGGESTED_PLAN}, or {', '.join(NAMED_PLANS)}.")
]
SeedOption = Annotated[int, typer.Option(help="Random seed of the split and of the batches.")]
FoldsOption = Annotated[int | None, typer.Option(min=2, help="First cross-validate the head with so many folds.")]
RefitOption = Annotated[
    bool,
    typer.Option(
        "--refit", help="Train once more afterwards, on all images; the metrics stay those of the first training."
    ),
]
KeepOption = Annotated[
    OtherWeights | None,
    typer.Option(
        "--keep",
        help="Keep other weights of this training than its plan would: those of the frozen network, or the reference, "
        "a head that is solved at once.",
    ),
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="Continue training this .headswap file; FOLDER holds images of its classes, and perhaps of new ones.",
    ),
]
RaceHeadsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--head", help=f"Head to train; may be given several times. By default {', '.join(DEFAULT_RACE_HEADS)}."
    ),
]


def check_command(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Check a dataset for duplicates, conflicting labels and weak images before training."""
    images = load_images(folder, as_json)
    findings = check(images)
    if as_json:
        rows = [
            {
                "kind": finding.kind,
                "text": str(finding),
                "images": [[images.names[i] for i in group] for group in finding.index_groups],
            }
            for finding in findings
        ]
        return print_json_line(event="Findings", classes=images.counts, findings=rows)
    for name, number in images.counts.items():
        print_line(f"{number:6,}  {name}")
    for finding in findings:
        print_line(f"\n{finding}")
        for group in finding.index_groups[:MAX_SHOWN_GROUPS]:
            print_line(f"  {', '.join(images.names[i] for i in group)}")
        if len(finding.index_groups) > MAX_SHOWN_GROUPS:
            print_line(f"  and {len(finding.index_groups) - MAX_SHOWN_GROUPS:,} more")
    if not findings:
        print_line("Nothing else to remark.")
    return None


def train_command(
    context: typer.Context,
    folder: FolderArgument,
    backbone: BackboneOption = DEFAULT_BACKBONE,
    head: HeadOption = "linear",
    option_pairs: HeadOptionsOption = None,
    plan_name: PlanOption = SUGGESTED_PLAN,
    seed: SeedOption = 0,
    folds: FoldsOption = None,
    refit_afterwards: RefitOption = False,
    keep: KeepOption = None,
    from_file: FromOption = None,
    out: OutOption = None,
    classify: ClassifyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model on a folder of images, and optionally save it or classify images with it."""
    if from_file and (option_pairs or is_given(context, "backbone", "head")):
        raise typer.BadParameter("With --from the backbone and the head are the file's; leave their options away.")
    if keep and refit_afterwards:
        raise typer.BadParameter("--refit learns again what the plan keeps; leave --keep away.")
    if out:
        check_writable(out)
    images_to_classify = resolve_existing_images(classify)
    interrupt = _install_interrupt_handler(context, out)
    images = load_images(folder, as_json)
    torch.manual_seed(seed)
    with translate_option_errors():
        options = parse_head_options(head, option_pairs or ())
        named_plan = None if plan_name == SUGGESTED_PLAN else Plan.from_name(plan_name)
        if from_file:
            model = load_and_add_classes(from_file, images)
        else:
            model = adapt_backbone(backbone, images.classes, head, options, as_json, images.multi_label)
    plan = replace(named_plan or Plan.suggest(images, model), seed=seed)
    if plan.advice and not as_json:
        console.print(plan.advice)
    if folds:
        show_events(cross_validate(images, model, head, folds, (seed,), plan, head_options=options), as_json)
    previous_record, remark = model.record, ""
    interrupt.defer(ABORTED_MESSAGE)
    shown = show_events(interrupt.until_interrupted(train(model, images, plan)), as_json)
    if refit_afterwards and not interrupt.is_interrupted:
        refitting = refit(model, images, plan, shown.get(Kept))
        is_refitted = show_events(interrupt.until_interrupted(refitting), as_json).get(Kept)
        remark = "" if is_refitted else "It has not learned again from all images."
    if keep and not interrupt.is_interrupted:
        _keep_other_weights(model, shown.get(Kept), keep, as_json)
    trained = model if model.record is not previous_record or not interrupt.is_interrupted else None
    _save_and_classify(interrupt, trained, remark, out, images_to_classify, as_json)


def race_command(
    context: typer.Context,
    folder: FolderArgument,
    backbone: BackboneOption = DEFAULT_BACKBONE,
    head: RaceHeadsOption = None,
    seed: Annotated[int, typer.Option(help="Random seed of the heads' initial weights.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Save the best model as this .headswap file.")] = None,
    classify: ClassifyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train several heads side by side, and continue with the best."""
    if out:
        check_writable(out)
    images_to_classify = resolve_existing_images(classify)
    interrupt = _install_interrupt_handler(context, out)
    images = load_images(folder, as_json)
    torch.manual_seed(seed)
    with translate_option_errors():
        events = race(images, backbone, head or DEFAULT_RACE_HEADS)
    models_by_head: dict[str, Classifier] = {}
    interrupt.defer(ABORTED_MESSAGE)
    won = show_events(_collect_race_models(interrupt.until_interrupted(events), models_by_head), as_json).get(Won)
    best = won.model if won else select_best_model(models_by_head.values())
    trained = best if best is not None and best.record else None
    best_head = next((name for name, model in models_by_head.items() if model is trained), "")
    _save_and_classify(interrupt, trained, f"The head {best_head} was ahead.", out, images_to_classify, as_json)


def _collect_race_models(
    events: Iterable[ProgressEvent], models_by_head: dict[str, Classifier]
) -> Iterator[ProgressEvent]:
    """Pass the events of a race on, and store its models under the names of their heads."""
    for event in events:
        if isinstance(event, Lap) and event.model is not None:
            models_by_head[event.head] = event.model
        yield event


def _install_interrupt_handler(context: typer.Context, out: Path | None) -> InterruptHandler:
    """Handle Ctrl+C while this command runs."""
    return context.with_resource(InterruptHandler(_untrained_message(out)))


def _untrained_message(out: Path | None) -> str:
    return "Stopped before anything was learned" + (f"; {out} was not written." if out else ".")


def _keep_other_weights(model: Classifier, kept: Kept | None, name: OtherWeights, as_json: bool) -> None:
    """Put a candidate of the training into the model, and say so; without one the model stays as it is."""
    candidate = kept.candidates.get(name.value) if kept else None
    metrics = candidate.validation_metrics if candidate else None
    if candidate and metrics:
        restore(model, candidate)
        what = "the frozen network" if name is OtherWeights.FROZEN else "the head that is solved at once"
        sentence = f"Kept {what} instead: {metrics.correct} of {metrics.total} validation images right."
    else:
        sentence = f"This training has no other weights to keep that are called {name.value}; nothing was changed."
    fields = {"candidate": name.value, "restored": metrics is not None, "sentence": sentence}
    print_text_or_json(sentence, as_json, event="Restored", **fields)


def _save_and_classify(
    interrupt: InterruptHandler,
    model: Classifier | None,
    remark: str,
    out: Path | None,
    images_to_classify: Sequence[Path],
    as_json: bool,
) -> None:
    """Save a trained model and classify images; after Ctrl+C only save it.

    Args:
        interrupt: the handler of Ctrl+C.
        model: None if the training was interrupted before the model learned anything.
        remark: a sentence to add if it was interrupted.
        out: the file to write.
        images_to_classify: paths of images.
        as_json: whether to print JSON.

    Raises:
        typer.Exit: if Ctrl+C was pressed.
    """
    is_reported = interrupt.is_interrupted
    if is_reported:
        _report_interruption(model, remark, out, as_json)
    if out and model:
        print_text_or_json(f"{save(model, out).sentence} It is {out}.", as_json, event="Saved", file=str(out))
    if interrupt.is_interrupted and not is_reported:
        print_text_or_json("Stopped, after everything was learned and written.", as_json, event="Stopped")
    if interrupt.is_interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    interrupt.raise_immediately("Stopped.")
    if images_to_classify and model:
        classify_files(model, images_to_classify, OutputFormat.JSON if as_json else OutputFormat.TABLE)


def _report_interruption(model: Classifier | None, remark: str, out: Path | None, as_json: bool) -> None:
    if model is None:
        sentence = _untrained_message(out)
        return print_text_or_json(sentence, as_json, event="Stopped", learned=False, sentence=sentence)
    record = model.record
    assert isinstance(record, Record)  # of a trained model
    is_best = record.checkpoint == "best"
    weights = f"the weights of epoch {record.epoch}, the best so far" if is_best else "what it came to"
    result = f"{record.result.correct} of {record.result.total} validation images right"
    file = f"{out} is being written; Ctrl+C again ends at once." if out else "Without --out nothing is saved."
    sentence = " ".join(filter(None, (f"Stopped. Kept {weights}: {result}.", remark, file)))
    return print_text_or_json(
        sentence,
        as_json,
        event="Stopped",
        learned=True,
        epoch=record.epoch,
        right=record.result.correct,
        of=record.result.total,
        sentence=sentence,
    )
