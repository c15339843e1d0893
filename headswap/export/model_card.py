"""Builds a model card (README.md with YAML front matter) with evaluation, training and license sections.

Names of classes are the user's text: in Markdown they are escaped, and YAML is written by a library alone. Knows
nothing of files and of how a model is saved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape

from headswap.common.text import format_percent, sanitize
from headswap.evaluation.metrics import wilson_interval
from headswap.export.plots import has_missing_glyphs, plot_confusion_matrix, plot_training_curves
from headswap.networks.catalogue import find_backbone
from headswap.networks.classifier import ACCURACY, Classifier
from headswap.networks.head_registry import describe_head, get_head_config
from headswap.networks.stage import count_parameters
from headswap.training.plan import Phase
from headswap.training.record import SELECTION_BIAS_NOTE, Record, ValidationResult

MAX_CONFUSION_MATRIX_CLASSES = 40  # beyond which a confusion matrix cannot be read
MARKDOWN_SPECIAL_CHARACTERS = re.compile(r"([\\`*_{}\[\]|~$])")


def escape_markdown(text: str) -> str:
    """Escape a text so that Markdown and HTML show it literally."""
    return MARKDOWN_SPECIAL_CHARACTERS.sub(r"\\\1", escape(sanitize(text), quote=False))


def build_model_card(model: Classifier, title: str, usage: str) -> dict[str, bytes]:
    """Build the card as files: ``README.md`` and the plots that it shows.

    Args:
        model: a model whose backbone is in the catalogue.
        title: the heading.
        usage: Markdown that says how to use what the card belongs to.
    """
    record = model.record
    plots = {}
    if record and record.result.confusion and len(model.classes) <= MAX_CONFUSION_MATRIX_CLASSES:
        plots["confusion.png"] = plot_confusion_matrix(record)
    if record and len(record.epochs) > 1:
        plots["curves.png"] = plot_training_curves(record)
    sections = [
        f"---\n{_front_matter(model, title)}\n---",
        f"# {escape_markdown(title)}",
        _overview_section(model),
        _evaluation_section(model, plots),
        _training_section(record, plots) if record else "",
        f"## Use it\n\n{usage}",
        _license_section(model),
    ]
    return {"README.md": "\n\n".join(filter(None, sections)).encode() + b"\n", **plots}


def _front_matter(model: Classifier, title: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results: list[EvalResult] | None = None
    result = model.record.result if model.record else None
    if result and result.metric == ACCURACY and result.total:
        results = [
            EvalResult(
                task_type="image-classification",
                dataset_type="custom",
                dataset_name="images held back by its author",
                metric_type="accuracy",
                metric_value=round(result.correct / result.total, 4),
            )
        ]
    data = ModelCardData(
        license="other",
        license_name=(find_backbone(model.backbone).license or "unknown").lower(),
        tags=["image-classification", "transfer-learning", "headswap"],
        pipeline_tag="image-classification",
        eval_results=results,
        model_name=sanitize(title) if results else None,
    )
    return data.to_yaml()


def _overview_section(model: Classifier) -> str:
    info, config, preprocess = find_backbone(model.backbone), get_head_config(model.head), model.preprocess
    names = ", ".join(map(escape_markdown, model.classes))
    size = "" if info.million_weights is None else f", {info.million_weights:.1f} million weights"
    weights = "ImageNet weights" if model.pretrained else "random weights"
    head = escape_markdown(config.head_name if config else type(model.head).__name__)
    options = ", ".join(f"{name}={value}" for name, value in config.options.items()) if config else ""
    in_parentheses = f" ({escape_markdown(options)})" if options else ""
    description = f": {describe_head(config.head_name).rstrip('.').lower()}" if config else ""
    crop = "the centre is cut out" if preprocess.crop == "centre" else "the whole picture is squeezed to a square"
    return (
        f"Tells {len(model.classes)} classes from one another and nothing else: {names}.\n\n"
        "| | |\n|---|---|\n"
        f"| backbone | {info.name}{size}, began with {weights} |\n"
        f"| head | {head}{in_parentheses}, {count_parameters(model.head):,} weights{description} |\n"
        f"| sees | {preprocess.size} x {preprocess.size} pixels; the shorter side is brought to {preprocess.resize}, "
        f"{crop} |\n"
        f"| an image | {'may show several of the classes, or none' if model.multi_label else 'shows one of them'} |"
    )


def _evaluation_section(model: Classifier, plots: Mapping[str, bytes]) -> str:
    record = model.record
    if record is None:
        return "## How good it is\n\nIt was not taught here, so nothing is known."
    sentences = [format_result(record.result)]
    if record.selected_on_validation:
        sentences.append(SELECTION_BIAS_NOTE)
    if record.refitted:
        sentences.append("Afterwards it learned once more from all images, those included; the figure is from before.")
    if record.reference:
        sentences.append(f"A head that is solved at once on the same features: {format_result(record.reference)}")
    if record.verdict:
        sentences.append(escape_markdown(record.verdict))
    added = [name for name in model.classes if name not in record.class_counts]
    if added:
        sentences.append(f"Not yet known when this was measured: {', '.join(map(escape_markdown, added))}.")
    plot = ""
    if "confusion.png" in plots:
        plot = "\n\n![Confusion matrix: a row for each true class](confusion.png)"
        if any(map(has_missing_glyphs, record.class_counts)):
            plot += "\n\nA number in it is the class of that place in the list below."
    return f"## How good it is\n\n{' '.join(sentences)}{plot}"


def format_result(result: ValidationResult) -> str:
    """The result as a sentence, with a 95 % Wilson interval of the accuracy."""
    if not result.total:
        return "Nothing was held back to judge it by."
    low, high = map(format_percent, wilson_interval(result.correct, result.total))
    rightly = "rightly" if result.metric == ACCURACY else "with exactly their labels"
    score = "" if result.metric == ACCURACY else f"; {result.metric} {result.score:.2f}"
    return (
        f"{result.correct} of {result.total} images that were held back are named {rightly}, "
        f"{format_percent(result.correct / result.total)} (95 % interval: {low} to {high}){score}."
    )


def _training_section(record: Record, plots: Mapping[str, bytes]) -> str:
    plan = record.plan
    rows = "\n".join(f"| {escape_markdown(name)} | {count} |" for name, count in record.class_counts.items())
    phases = "\n".join(f"{i}. {_format_phase(phase)}" for i, phase in enumerate(plan.phases, 1))
    way = format_percent(plan.weight_interpolation)
    checkpoint = {
        "between": f"weights {way} of the way from the frozen network to epoch {record.epoch}",
        "best": f"epoch {record.epoch}, the best on what was held back",
        "last": f"epoch {record.epoch}, the last",
        "frozen": "the network before its stages learned",
        "reference": "the head that is solved at once, on frozen stages",
    }[record.checkpoint]
    plot = "\n\n![Loss and score after each epoch](curves.png)" if "curves.png" in plots else ""
    return (
        f"## How it was taught\n\nFrom {record.num_training_images} images in {plan.views} views each, "
        f"batches of {plan.batch_size}, AdamW, seed {plan.seed}, in {record.seconds:.0f} s. "
        f"Kept: {checkpoint}.\n\n{phases}{plot}\n\n| class | images |\n|---|---|\n{rows}"
    )


def _format_phase(phase: Phase) -> str:
    what = {0: "the head alone", None: "everything"}.get(phase.learning_stages)
    stages_lr = f", stages {phase.backbone_lr:g}" if phase.learning_stages != 0 else ""
    return (
        f"{what or f'the last {phase.learning_stages} stages and the head'}: {phase.epochs} epochs, "
        f"{phase.schedule}, rates: head {phase.head_lr:g}{stages_lr}"
    )


def _license_section(model: Classifier) -> str:
    info = find_backbone(model.backbone)
    terms = " Its terms forbid commercial use." if info.is_non_commercial else ""
    return (
        f"## Licence\n\nThe backbone's weights come under {info.license or 'a licence that nobody has stated'}.{terms} "
        "What the images allow, their owners know."
    )
