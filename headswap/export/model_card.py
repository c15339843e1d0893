"""What a model is, for people: a card in Markdown, with its confusion matrix and its curves as pictures beside it.

Names of classes are somebody else's text: in Markdown they are escaped, and in YAML nothing but a library writes them.
Knows nothing of files and of how a model is saved.
"""

from __future__ import annotations

import re
from html import escape

from headswap.common.text import harmless
from headswap.evaluation.metrics import wilson
from headswap.export.plots import confusion_picture, curves_picture, lacks_letters
from headswap.networks.catalogue import find
from headswap.networks.classifier import ACCURACY, Classifier
from headswap.networks.heads import head_sentence, recipe
from headswap.networks.stage import count_weights
from headswap.training.plan import Phase
from headswap.training.record import Record, Result

MOST_CLASSES = 40  # in a confusion matrix that can be read
SPECIAL = re.compile(r"([\\`*_{}\[\]|~$])")


def plain(text: str) -> str:
    """Somebody's text so that Markdown and HTML show it as it stands."""
    return SPECIAL.sub(r"\\\1", escape(harmless(text), quote=False))


def card(model: Classifier, title: str, usage: str) -> dict[str, bytes]:
    """The card as files: ``README.md`` and the pictures that it shows.

    Args:
        model: of a backbone that the catalogue names.
        title: what to call it.
        usage: Markdown that says how to use what the card lies beside.
    """
    record = model.record
    pictures = {}
    if record and record.result.confusion and len(model.classes) <= MOST_CLASSES:
        pictures["confusion.png"] = confusion_picture(record)
    if record and len(record.epochs) > 1:
        pictures["curves.png"] = curves_picture(record)
    parts = [
        f"---\n{_front_matter(model, title)}\n---",
        f"# {plain(title)}",
        _what(model),
        _how_good(model, pictures),
        _how_taught(record, pictures) if record else "",
        f"## Use it\n\n{usage}",
        _licence(model),
    ]
    return {"README.md": "\n\n".join(filter(None, parts)).encode() + b"\n", **pictures}


def _front_matter(model: Classifier, title: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    told = {}
    if model.record and model.record.result.metric == ACCURACY and model.record.result.of:
        share = model.record.result.right / model.record.result.of
        dataset = {"dataset_type": "custom", "dataset_name": "images held back by its author"}
        result = EvalResult("image-classification", metric_type="accuracy", metric_value=round(share, 4), **dataset)
        told = {"eval_results": [result], "model_name": harmless(title)}
    data = ModelCardData(
        license="other",
        license_name=(find(model.backbone).licence or "unknown").lower(),
        tags=["image-classification", "transfer-learning", "headswap"],
        pipeline_tag="image-classification",
        **told,
    )
    return data.to_yaml()


def _what(model: Classifier) -> str:
    row, made = find(model.backbone), recipe(model.head)
    head = made.name if made else type(model.head).__name__
    options = ", ".join(f"{name}={value}" for name, value in made.options.items()) if made else ""
    names = ", ".join(map(plain, model.classes))
    size = "" if row.million_weights is None else f", {row.million_weights:.1f} million weights"
    source = "ImageNet weights" if model.pretrained else "random weights"
    wanted = model.preprocess
    crop = "the centre is cut out" if wanted.crop == "centre" else "the whole picture is squeezed to a square"
    return (
        f"Tells {len(model.classes)} classes from one another and nothing else: {names}.\n\n"
        "| | |\n|---|---|\n"
        f"| backbone | {row.name}{size}, began with {source} |\n"
        f"| head | {plain(head)}{f' ({plain(options)})' if options else ''}, {count_weights(model.head):,} weights"
        f"{': ' + head_sentence(made.name)[:-1].lower() if made else ''} |\n"
        f"| sees | {wanted.size} x {wanted.size} pixels; the shorter side is brought to {wanted.resize}, {crop} |\n"
        f"| an image | {'may show several of the classes, or none' if model.multi_label else 'shows one of them'} |"
    )


def _how_good(model: Classifier, pictures: dict[str, bytes]) -> str:
    if model.record is None:
        return "## How good it is\n\nIt was not taught here, so nothing is known."
    record = model.record
    said = [told(record.result)]
    if record.chosen:
        said.append("These images chose the epoch, so the figure flatters.")
    if record.refitted:
        said.append("Afterwards it learned once more from all images, those included; the figure is from before.")
    if record.reference:
        said.append(f"A head that is solved at once on the same features: {told(record.reference)}")
    if record.verdict:
        said.append(plain(record.verdict))
    strange = [name for name in model.classes if name not in record.images]
    if strange:
        said.append(f"Not yet known when this was measured: {', '.join(map(plain, strange))}.")
    shown = ""
    if "confusion.png" in pictures:
        shown = "\n\n![Confusion matrix: a row for each true class](confusion.png)"
        if any(map(lacks_letters, record.images)):
            shown += "\n\nA number in it is the class of that place in the list below."
    return f"## How good it is\n\n{' '.join(said)}{shown}"


def told(result: Result) -> str:
    """The result in a sentence, with its interval."""
    if not result.of:
        return "Nothing was held back to judge it by."
    low, high = wilson(result.right, result.of)
    rightly = "rightly" if result.metric == ACCURACY else "with exactly their labels"
    said = f"{result.right} of {result.of} images that were held back are named {rightly}"
    score = "" if result.metric == ACCURACY else f"; {result.metric} {result.score:.2f}"
    return f"{said}, {_percent(result.right / result.of)} (95 % interval: {_percent(low)} to {_percent(high)}){score}."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _how_taught(record: Record, pictures: dict[str, bytes]) -> str:
    rows = "\n".join(f"| {plain(name)} | {count} |" for name, count in record.images.items())
    phases = "\n".join(f"{i}. {_phase(phase)}" for i, phase in enumerate(record.plan.phases, 1))
    kept = {
        "between": f"weights {_percent(record.plan.share)} of the way from the frozen network to epoch {record.epoch}",
        "best": f"epoch {record.epoch}, the best on what was held back",
        "last": f"epoch {record.epoch}, the last",
        "frozen": "the network before its stages learned",
        "reference": "the head that is solved at once, on frozen stages",
    }[record.kept]
    shown = "\n\n![Loss and score after each epoch](curves.png)" if "curves.png" in pictures else ""
    return (
        f"## How it was taught\n\nFrom {record.learned} images in {record.plan.views} views each, "
        f"batches of {record.plan.batch_size}, AdamW, seed {record.plan.seed}, in {record.seconds:.0f} s. "
        f"Kept: {kept}.\n\n{phases}{shown}\n\n| class | images |\n|---|---|\n{rows}"
    )


def _phase(phase: Phase) -> str:
    what = {0: "the head alone", None: "everything"}.get(phase.learning_stages)
    stages = f", stages {phase.backbone_rate:g}" if phase.learning_stages != 0 else ""
    return (
        f"{what or f'the last {phase.learning_stages} stages and the head'}: {phase.epochs} epochs, "
        f"{phase.schedule}, rates: head {phase.head_rate:g}{stages}"
    )


def _licence(model: Classifier) -> str:
    row = find(model.backbone)
    terms = " Its terms forbid commercial use." if row.non_commercial else ""
    return (
        f"## Licence\n\nThe backbone's weights come under {row.licence or 'a licence that nobody has stated'}.{terms} "
        "What the images allow, their owners know."
    )
