"""Small labelled folders of coloured shapes that any network can tell apart, small networks, and plans to learn them.

Knows no fixtures.
"""

from dataclasses import replace

import torch
from PIL import Image, ImageDraw

import headswap
from headswap import Phase, Plan

SHAPES = {"dots": ("crimson", "ellipse"), "boxes": ("royalblue", "rectangle"), "bars": ("seagreen", "line")}
SMALL = "shufflenet_v2_x0_5"  # batch norms in every stage, and an epoch takes milliseconds
NARROW = "squeezenet1_1"  # half as many features, so that a head is solved at once in no time; no batch norms

HEAD_ONLY = Plan((Phase(3, 0, 1e-2),), views=2)
THAWED = Plan((Phase(3, 2, 1e-2, 1e-3),), views=2)
TWO = Plan((Phase(3, 0, 1e-2), Phase(3, 1, 1e-3, 1e-4)), views=2)


def shape(name, number=0, size=(56, 44)):
    """A picture of a shape; the number moves it and shades the background."""
    colour, form = SHAPES[name]
    light = 200 + 7 * (number % 8)
    picture = Image.new("RGB", size, (light, light, 255 - 5 * (number % 6)))
    left, top = 4 + 3 * number % 17, 3 + 5 * number % 11
    box = (left, top, left + 26, top + 22)
    draw = ImageDraw.Draw(picture)
    if form == "line":
        draw.line(box, colour, width=9)
    else:
        getattr(draw, form)(box, colour)
    return picture


def draw_folder(root, each=6, names=tuple(SHAPES)):
    """A folder with one sub-folder for each shape and `each` pictures in it."""
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(each):
            shape(name, number).save(root / name / f"{number}.png")
    return root


def load_shapes(root, each=6, names=tuple(SHAPES)):
    """The same, loaded."""
    return headswap.load_images(draw_folder(root, each, names))


def small_model(classes=3, head="linear", backbone=SMALL, side=32, seed=0, pretrained=False, **options):
    """A classifier that looks at `side` pixels; with random weights, which are the same for the same seed."""
    torch.manual_seed(seed)
    model = headswap.adapt(backbone, classes, head, pretrained=pretrained, **options)
    model.preprocess = replace(model.preprocess, size=side, resize=side + 4)
    return model if pretrained else awake(model)


def awake(model):
    """Let batch norms know what random weights give: otherwise one picture's features are another's."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    pictures = torch.stack([model.preprocess(shape(name, i)) for name in SHAPES for i in range(5)])
    model.unfreeze().train()
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
        model.forward_stages(pictures)
        for norm in norms:
            norm.momentum = 0.1
    return model.freeze()


def copied(module):
    """Every tensor of a module, buffers included, as it stands."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def moved(before, module):
    """The names of the tensors that are not what they were, to the last bit."""
    after = module.state_dict()
    assert before.keys() == after.keys()
    return {name for name, tensor in after.items() if not torch.equal(before[name], tensor)}
