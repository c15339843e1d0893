"""What a model is, for people: a card in Markdown, with its confusion matrix and its curves as pictures beside it.

Names of classes are somebody else's text: in Markdown they are escaped, and in YAML nothing but a library writes them.
Knows nothing of files and of how a model is saved.
"""

from __future__ import annotations

import re
from html import escape

from headswap.common.text import sanitize
from headswap.evaluation.metrics import wilson_interval
from headswap.export.plots import has_missing_glyphs, plot_confusion_matrix, plot_training_curves
from headswap.networks.catalogue import find_backbone
from headswap.networks.classifier import ACCURACY, Classifier
from headswap.networks.head_registry import describe_head, get_head_config
from headswap.networks.stage import count_parameters
from headswap.training.plan import Phase
from headswap.training.record import Record, ValidationResult

MAX_CONFUSION_MATRIX_CLASSES = 40  # in a confusion matrix that can be read
MARKDOWN_SPECIAL_CHARACTERS = re.compile(r"([\\`*_{}\[\]|~$])")


def escape_markdown(text: str) -> str:
    """Somebody's text so that Markdown and HTML show it as it stands."""
    return MARKDOWN_SPECIAL_CHARACTERS.sub(r"\\\1", escape(sanitize(text), quote=False))


def build_model_card(model: Classifier, title: str, usage: str) -> dict[str, bytes]:
    """The card as files: ``README.md`` and the pictures that it shows.

    Args:
        model: of a backbone that the catalogue names.
        title: what to call it.
        usage: Markdown that says how to use what the card lies beside.
    """
    record = model.record
    pictures = {}
    if record and record.result.confusion and len(model.classes) <= MAX_CONFUSION_MATRIX_CLASSES:
        pictures["confusion.png"] = plot_confusion_matrix(record)
    if record and len(record.epochs) > 1:
        pictures["curves.png"] = plot_training_curves(record)
    parts = [
        f"---\n{_front_matter(model, title)}\n---",
        f"# {escape_markdown(title)}",
        _overview_section(model),
        _evaluation_section(model, pictures),
        _training_section(record, pictures) if record else "",
        f"## Use it\n\n{usage}",
        _license_section(model),
    ]
    return {"README.md": "\n\n".join(filter(None, parts)).encode() + b"\n", **pictures}


def _front_matter(model: Classifier, title: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    told = {}
    if model.record and model.record.result.metric == ACCURACY and model.record.result.total:
        share = model.record.result.correct / model.record.result.total
        dataset = {"dataset_type": "custom", "dataset_name": "images held back by its author"}
        result = EvalResult("image-classification", metric_type="accuracy", metric_value=round(share, 4), **dataset)
        told = {"eval_results": [result], "model_name": sanitize(title)}
    data = ModelCardData(
        license="other",
        license_name=(find_backbone(model.backbone).license or "unknown").lower(),
        tags=["image-classification", "transfer-learning", "headswap"],
        pipeline_tag="image-classification",
        **told,
    )
    return data.to_yaml()


def _overview_section(model: Classifier) -> str:
    row, made = find_backbone(model.backbone), get_head_config(model.head)
    head = made.head_name if made else type(model.head).__name__
    options = ", ".join(f"{name}={value}" for name, value in made.options.items()) if made else ""
    names = ", ".join(map(escape_markdown, model.classes))
    size = "" if row.million_weights is None else f", {row.million_weights:.1f} million weights"
    source = "ImageNet weights" if model.pretrained else "random weights"
    wanted = model.preprocess
    crop = "the centre is cut out" if wanted.crop == "centre" else "the whole picture is squeezed to a square"
    return (
        f"Tells {len(model.classes)} classes from one another and nothing else: {names}.\n\n"
        "| | |\n|---|---|\n"
        f"| backbone | {row.name}{size}, began with {source} |\n"
        f"| head | {escape_markdown(head)}{f' ({escape_markdown(options)})' if options else ''}, {count_parameters(model.head):,} weights"
        f"{': ' + describe_head(made.head_name)[:-1].lower() if made else ''} |\n"
        f"| sees | {wanted.size} x {wanted.size} pixels; the shorter side is brought to {wanted.resize}, {crop} |\n"
        f"| an image | {'may show several of the classes, or none' if model.multi_label else 'shows one of them'} |"
    )


def _evaluation_section(model: Classifier, plots: dict[str, bytes]) -> str:
    if model.record is None:
        return "## How good it is\n\nIt was not taught here, so nothing is known."
    record = model.record
    said = [format_result(record.result)]
    if record.selected_on_validation:
        said.append("These images chose the epoch, so the figure flatters.")
    if record.refitted:
        said.append("Afterwards it learned once more from all images, those included; the figure is from before.")
    if record.reference:
        said.append(f"A head that is solved at once on the same features: {format_result(record.reference)}")
    if record.verdict:
        said.append(escape_markdown(record.verdict))
    strange = [name for name in model.classes if name not in record.class_counts]
    if strange:
        said.append(f"Not yet known when this was measured: {', '.join(map(escape_markdown, strange))}.")
    shown = ""
    if "confusion.png" in plots:
        shown = "\n\n![Confusion matrix: a row for each true class](confusion.png)"
        if any(map(has_missing_glyphs, record.class_counts)):
            shown += "\n\nA number in it is the class of that place in the list below."
    return f"## How good it is\n\n{' '.join(said)}{shown}"


def format_result(result: ValidationResult) -> str:
    """The result in a sentence, with its interval."""
    if not result.total:
        return "Nothing was held back to judge it by."
    low, high = wilson_interval(result.correct, result.total)
    rightly = "rightly" if result.metric == ACCURACY else "with exactly their labels"
    said = f"{result.correct} of {result.total} images that were held back are named {rightly}"
    score = "" if result.metric == ACCURACY else f"; {result.metric} {result.score:.2f}"
    return f"{said}, {_format_percent(result.correct / result.total)} (95 % interval: {_format_percent(low)} to {_format_percent(high)}){score}."


def _format_percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def _training_section(record: Record, plots: dict[str, bytes]) -> str:
    rows = "\n".join(f"| {escape_markdown(name)} | {count} |" for name, count in record.class_counts.items())
    phases = "\n".join(f"{i}. {_format_phase(phase)}" for i, phase in enumerate(record.plan.phases, 1))
    kept = {
        "between": f"weights {_format_percent(record.plan.weight_interpolation)} of the way from the frozen network to epoch {record.epoch}",
        "best": f"epoch {record.epoch}, the best on what was held back",
        "last": f"epoch {record.epoch}, the last",
        "frozen": "the network before its stages learned",
        "reference": "the head that is solved at once, on frozen stages",
    }[record.checkpoint]
    shown = "\n\n![Loss and score after each epoch](curves.png)" if "curves.png" in plots else ""
    return (
        f"## How it was taught\n\nFrom {record.num_training_images} images in {record.plan.views} views each, "
        f"batches of {record.plan.batch_size}, AdamW, seed {record.plan.seed}, in {record.seconds:.0f} s. "
        f"Kept: {kept}.\n\n{phases}{shown}\n\n| class | images |\n|---|---|\n{rows}"
    )


def _format_phase(phase: Phase) -> str:
    what = {0: "the head alone", None: "everything"}.get(phase.learning_stages)
    stages = f", stages {phase.backbone_lr:g}" if phase.learning_stages != 0 else ""
    return (
        f"{what or f'the last {phase.learning_stages} stages and the head'}: {phase.epochs} epochs, "
        f"{phase.schedule}, rates: head {phase.head_lr:g}{stages}"
    )


def _license_section(model: Classifier) -> str:
    row = find_backbone(model.backbone)
    terms = " Its terms forbid commercial use." if row.is_non_commercial else ""
    return (
        f"## Licence\n\nThe backbone's weights come under {row.license or 'a licence that nobody has stated'}.{terms} "
        "What the images allow, their owners know."
    )
