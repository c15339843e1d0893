"""What a visitor chooses in the model step, and what a page says to whoever reads it. Knows no fixtures."""

from html.parser import HTMLParser
from types import SimpleNamespace

from headswap.networks.catalogue import DEFAULT_BACKBONE
from headswap.networks.head_registry import HEADS, get_head_options
from headswap.ui.steps import model


class Reader(HTMLParser):
    """The tags, the texts and the attributes of a piece of HTML."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.texts, self.attributes = set(), [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += [value for _, value in attributes]

    def handle_data(self, text):
        self.texts.append(text)

    @property
    def text(self):
        return "".join(self.texts)


def text_of(html):
    return Reader(html).text


def is_error(html):
    return 'role="alert"' in html


def values(**changed):
    """What the options of all heads hold, in their order; ``mlp_hidden_dims="3, 4"`` changes one."""
    held = {f"{head}_{option}": default for head in HEADS for option, default in get_head_options(head).items()}
    held["mlp_hidden_dims"] = "1024, 512"
    assert changed.keys() <= held.keys()
    return list((held | changed).values())


def choose(visitor, head="linear", backbone=DEFAULT_BACKBONE, other=None, crop="centre", pretrained=True, **changed):
    """What the model step answers, by name."""
    update = model.choose_network(visitor, backbone, other, head, crop, pretrained, *values(**changed))
    return SimpleNamespace(
        drawing=update.stage_strip,
        sentence=update.choice_text,
        problem=update.problem,
        seen=update.input_preview,
        heads=update.head,
        groups=list(update.option_groups.values()),
    )
