"""Help texts for controls and charts, and the switch that shows them. Knows no step."""

from __future__ import annotations

import gradio as gr

from headswap.ui.static.assets import read_static

DROPOUT_NOTE = (
    "At each step of the training a random share of what flows through is left out, so that no weight can rely on a "
    "few others: <b>dropout</b>, against <b>overfitting</b>. An answer uses everything."
)

# By the elem_id of the control or chart that each is about.
NOTES = {
    "picker": (
        "Each folder is a <b>class</b>, a word that the network learns to say. Pictures with their right word beside "
        "them are <b>labelled data</b>. A fifth of each class is held back as <b>validation images</b>: the network "
        "never learns from them, so they tell how well it does on pictures that it has not seen."
    ),
    "understood": (
        "Few pictures, taken alike, teach little: vary background, light and angle, and let each class have about as "
        "many. Copies of one picture stay together when the validation images are drawn, or they would flatter."
    ),
    "backbone": (
        "The <b>backbone</b> has learned to see from a million photographs of a thousand kinds of things, "
        "<b>ImageNet</b>. What it sees in a picture it writes as a row of numbers, the <b>features</b>: that is what a "
        "head learns from, and why few pictures are enough. This is <b>transfer learning</b>."
    ),
    "head": (
        "The <b>head</b> turns features into your classes. More weights can draw finer borders between classes, and "
        "learn few images by heart instead. Begin with the fewest."
    ),
    "crop": (
        "Every network wants pictures of one size. The <b>centre crop</b> keeps proportions and loses the edges; "
        "squeezing loses no edge and bends proportions. It is the same for training and for new images."
    ),
    "pretrained": (
        "Without it the weights are random: <b>training from scratch</b>, which wants thousands of pictures of a class."
    ),
    **{f"{head}-dropout": DROPOUT_NOTE for head in ("linear", "bottleneck", "mlp", "attention")},
    "bottleneck-bottleneck_dim": "How many numbers are left of the features. The fewer, the less there is to overfit.",
    "attention-dim": "How many numbers describe each place of the picture; four heads of attention share them.",
    "attention-layers": "How often the places of a picture look at one another: each layer is a transformer block.",
    "backbones": (
        "One that names ImageNet a little better is not always better for your pictures: try two, and compare their "
        "runs. Width is how many <b>features</b> a head gets from it, its seconds are what each look at an image costs."
    ),
    "train-strip": (
        "Each block is a <b>stage</b> of the <b>backbone</b>, from edges at the left to parts of things at the right. "
        "What is <b>frozen</b> stands still: left of the boundary its output is computed once for each image and kept, "
        "which is why an epoch takes so little."
    ),
    "train": (
        "First only the head learns, because a new head's random <b>gradients</b> would wreck what the backbone knows. "
        "Then the last stages <b>thaw</b> and learn too, at a lower <b>learning rate</b>: <b>fine-tuning</b>."
    ),
    "race": (
        "Four heads learn side by side on what the frozen stages gave once, so only the heads differ. Which of them "
        "names most of a few validation images is partly luck."
    ),
    "stop": "The weights of the best epoch so far are kept: <b>early stopping</b> by hand.",
    "charts": (
        "An <b>epoch</b> is once through all images. The <b>loss</b> is how surprised the network is by the right "
        "answers; <b>accuracy</b> counts them. Where the training curve goes on improving and the validation curve "
        "does not, it learns its images by heart: <b>overfitting</b>. The dashed line is a head that a formula solves "
        "at once, <b>linear discriminant analysis</b>: what training has to beat."
    ),
    "instead": (
        "The frozen and the unfrozen network answer the same validation images. <b>McNemar's test</b> looks only at "
        "those on which they differ, and asks whether chance does as much. With few images it often does."
    ),
    "look": "The <b>confusion matrix</b> after an epoch: what was taken for what. Early on most goes to one class.",
    "runs-table": (
        "The fewer images judge, the wider the <b>interval</b> in which the accuracy may really lie (in 95 of 100 "
        "cases). Runs whose intervals overlap much cannot be told apart by these images."
    ),
    "going-on": "Going on keeps what was learned; images of all its classes have to be there, or it would forget them.",
    "head-epochs": "The head is small and its features are kept, so an epoch takes a fraction of a second.",
    "stages": (
        "More stages that learn can fit more, and can <b>overfit</b> more. With fewer than about twenty images a class "
        "none or few pay."
    ),
    "stage-epochs": "A few are enough: the stages are to be adjusted, not taught anew.",
    "head-rate": (
        "How far a step goes. Too high, and the loss jumps about; too low, and it hardly falls. It rises and falls "
        "once during the phase: <b>one-cycle</b>."
    ),
    "find-rate": (
        "The <b>learning-rate range test</b>: the rate grows with each step until the loss explodes; a good one is "
        "about a tenth of the rate at which it does."
    ),
    "script": "The same run without headswap: the dataset, the swap of the head, the frozen pass and both loops.",
    "new-images": (
        "Each class gets a <b>probability</b>, together 100 % (<b>softmax</b>). The network must choose among the "
        "classes that it knows, even where the picture shows something else."
    ),
    "unsure": (
        "A <b>threshold</b>: higher, and it answers less often and is wrong less often. What a mistake costs says "
        "where it belongs."
    ),
    "judge": (
        "One right answer in three is no skill where a third of the images are of one class: that is why always "
        "answering the largest class stands beside it."
    ),
    "matrix": "Each row is what images show, each column what was answered: the <b>confusion matrix</b>.",
    "class-figures": (
        "<b>Precision</b>: of all that was called so, how much was. <b>Recall</b>: of all that was so, how much was "
        "found. <b>F1</b> is their harmonic mean, low if either is."
    ),
    "mistakes": "A sure answer that is wrong often means a wrong label: the cheapest way to a better model.",
    "along": "Pictures of people are personal data: they leave this page only if you say so.",
    "ways": (
        "<b>ONNX</b> is understood by programs without PyTorch, also in a browser. Every file is loaded again and its "
        "answers are compared before you get it."
    ),
}


def build_note(target_id: str) -> gr.HTML:
    """Build the note about a control or chart, which belongs right after it.

    Args:
        target_id: The ``elem_id`` of that control or chart.
    """
    note = f'<p role="note">{NOTES[target_id]}</p>'
    return gr.HTML(note, elem_id=f"note-{target_id}", elem_classes="hs-note", apply_default_css=False)


def build_notes_switch() -> gr.HTML:
    """Build the switch that shows all notes; the browser remembers it for as long as the tab is open."""
    return gr.HTML(
        '<button type="button" class="hs-button" role="switch" aria-checked="false" '
        'title="What each control does, and why">Explain</button>',
        js_on_load=read_static("explaining.js"),
        elem_id="explain",
        min_width=0,
        apply_default_css=False,
    )
