"""A model goes into a file and comes back the same; nothing in the file is run, and nothing of anybody is in it."""

import dataclasses
import getpass
import io
import json
import os
import pickle
import re
import socket
import struct
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from bundles import (
    BOUNDED,
    FAMILIES,
    TINY,
    in_new_process,
    joined,
    packed,
    parted,
    pictures,
    redescribed,
    refusal,
    reweighed,
    same_answers,
    side_of,
    tiny_model,
    unpacked,
)
from drawings import HEAD_ONLY, NARROW, SHAPES, THAWED, load_shapes, shape, small_model
from PIL import Image
from torch import nn
from torchvision import models as tv

import headswap
from headswap import InputError
from headswap.export import model_file
from headswap.export.model_file import DESCRIPTION_ENTRY, WEIGHTS_ENTRY
from headswap.networks import head_registry

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded by Linux")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model and its file."""
    path = tmp_path_factory.mktemp("saved") / "shapes.headswap"
    model = tiny_model(sorted(SHAPES))
    headswap.save(model, path)
    return model, path


@pytest.fixture
def file(saved):
    """The file of a small model; not to be written to."""
    return saved[1]


@pytest.fixture
def other(tmp_path):
    """Where another file may lie."""
    return tmp_path / "other.headswap"


def returned(model, path, images=None):
    """The model as it comes back from a file."""
    headswap.save(model, path, images)
    return headswap.load(path)


# There and back


@pytest.mark.parametrize("head", head_registry.HEADS)
def test_every_head_comes_back_and_answers_the_same_to_the_last_bit(head, other):
    model = tiny_model(head=head)
    assert same_answers(model, returned(model, other))


@pytest.mark.parametrize(
    "name, options",
    [
        ("linear", {"dropout": 0}),
        ("bottleneck", {"bottleneck_dim": 7, "activation": "gelu", "dropout": 0.5}),
        ("mlp", {"hidden_dims": [9, 8, 7]}),
        ("mlp", {"hidden_dims": ()}),
        ("attention", {"dim": 16, "layers": 2}),
    ],
)
def test_a_heads_options_come_back(name, options, other):
    model = tiny_model(head=name, **options)
    again = returned(model, other)
    assert head_registry.get_head_config(again.head) == head_registry.get_head_config(model.head)
    assert str(again.head) == str(model.head)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_every_family_comes_back_and_answers_the_same_to_the_last_bit(name, other):
    model = small_model(backbone=name, side=side_of(name))
    assert same_answers(model, returned(model, other))


@pytest.mark.subprocess
def test_a_new_process_gives_the_same_bits(saved, tmp_path):
    files = [saved[1]]
    models = [saved[0]]
    for name, head in ((NARROW, "lda"), ("shufflenet_v2_x0_5", "mlp"), ("timm/test_vit_relpos", "attention")):
        models.append(small_model(backbone=name, side=side_of(name), head=head))
        files.append(tmp_path / f"{len(files)}.headswap")
        headswap.save(models[-1], files[-1])
    expected = torch.stack([model.predict_proba(pictures()) for model in models])
    answers = tmp_path / "answers"
    code = (
        "import sys, torch, headswap; from bundles import pictures; *files, answers = sys.argv[1:]; "
        "torch.save(torch.stack([headswap.load(file).predict_proba(pictures()) for file in files]), answers)"
    )
    in_new_process(code, *files, answers)
    assert torch.equal(torch.load(answers, weights_only=True), expected)


@pytest.mark.parametrize("plan", [HEAD_ONLY, THAWED], ids=["head", "stages"])
def test_what_was_learned_comes_back_with_its_record(plan, images, other):
    model = small_model(images.classes)
    headswap.fit(model, images, plan)
    again = returned(model, other)
    assert same_answers(model, again)
    assert again.record == model.record and again.record.plan == plan
    assert again.learning_stages == model.learning_stages
    assert len(again.learning_stages) == plan.phases[-1].learning_stages


def test_what_came_back_learns_on(images, other):
    model = small_model(images.classes)
    headswap.fit(model, images, HEAD_ONLY)
    again = returned(model, other)
    headswap.fit(again, images, THAWED)
    assert same_answers(again, returned(again, other))
    assert not same_answers(model, again)


def test_classes_pixels_and_origin_come_back(other):
    model = tiny_model(("a cat", "ein Hund", "猫"), crop="fit")
    wanted = dataclasses.replace(model.preprocess, mean=(0.1, 0.2, 0.3), interpolation="bilinear", resize=40)
    model.preprocess = wanted
    again = returned(model, other)
    assert again.classes == ("a cat", "ein Hund", "猫")
    assert again.preprocess == wanted and wanted.crop == "fit"
    assert (again.backbone, again.pretrained, again.multi_label) == (TINY, False, False)
    assert again.record is None and not again.training


def test_a_network_that_had_learned_comes_back_as_one(other):
    model = small_model(backbone="efficientnet_lite0", pretrained=True)
    again = returned(model, other)
    assert again.pretrained and same_answers(model, again)


def test_several_labels_come_back_with_their_thresholds(other):
    model = tiny_model(multi_label=True)
    model.thresholds.copy_(torch.tensor([0.1, 0.25, 0.999]))
    again = returned(model, other)
    assert again.multi_label and torch.equal(again.thresholds, model.thresholds)
    assert same_answers(model, again)
    assert again.predict_labels(shape("dots")) == model.predict_labels(shape("dots"))


@pytest.mark.parametrize("learning", [0, 1, 3, None])
def test_the_stages_that_learn_come_back(learning, other):
    model = tiny_model().unfreeze(learning)
    again = returned(model, other)
    assert again.learning_stages == model.learning_stages
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]


def test_a_class_that_was_added_comes_back(images, other):
    model = small_model(images.classes)
    headswap.fit(model, images, HEAD_ONLY)
    again = returned(model.add_class("stars"), other)
    assert again.classes == (*images.classes, "stars")
    assert same_answers(model, again)
    assert "Not yet known when this was measured: stars" in unpacked(other)["README.md"].decode()


def test_a_network_that_sees_more_than_is_brought_to_it_comes_back(other):
    model = tiny_model()
    model.preprocess = dataclasses.replace(model.preprocess, size=40, resize=32)  # as VOLO of timm wants it
    assert same_answers(model, returned(model, other))


def test_the_proof_says_that_nothing_differs(other):
    proof = headswap.save(tiny_model(), other)
    assert proof.max_difference == 0 and proof.num_images == 5
    assert "no difference on 5 images" in proof.sentence


def test_saving_and_loading_draw_no_random_numbers_and_change_nothing(other):
    model = tiny_model(head="mlp").unfreeze(2).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    training = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    headswap.save(model, other)
    headswap.load(other)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == training


def test_what_comes_back_shares_nothing_with_the_file(file, other):
    other.write_bytes(file.read_bytes())
    model = headswap.load(other)
    expected = model.predict_proba(pictures())
    other.write_bytes(bytes(len(file.read_bytes())))
    assert torch.equal(model.predict_proba(pictures()), expected)


def test_the_same_file_may_be_saved_over_and_over(other):
    first, second = tiny_model(seed=1), tiny_model(seed=2)
    headswap.save(first, other)
    assert same_answers(second, returned(second, other))
    assert [path.name for path in other.parent.iterdir()] == [other.name]


# Heads of somebody's own


class Twins(nn.Module):
    """Two layers that vote."""

    def __init__(self, features_in, classes, *, share: float = 0.5, widths: tuple = (4, 4), loud: bool = False):
        super().__init__()
        self.one, self.two = nn.Linear(features_in, classes), nn.Linear(features_in, classes)
        self.share = share

    def forward(self, x):
        return self.share * self.one(x) + (1 - self.share) * self.two(x)


class Bare(nn.Linear):
    """One layer, whose answers are turned round."""

    def __init__(self, features_in, classes):
        super().__init__(features_in, classes)

    def forward(self, x):
        return -super().forward(x)


@pytest.fixture
def registered():
    """Heads of somebody's own with names."""
    head_registry.register_head("twins", Twins)
    head_registry.register_head("bare", Bare)
    yield
    head_registry._HEADS.pop("twins")
    head_registry._HEADS.pop("bare")


def test_a_head_that_was_registered_comes_back(registered, other):
    model = tiny_model(head="twins", share=0.25, widths=(3,))
    again = returned(model, other)
    assert isinstance(again.head, Twins) and again.head.share == 0.25
    assert same_answers(model, again)


def test_a_registered_head_of_one_layer_may_have_a_class_added(registered, other):
    model = tiny_model(head="bare").add_class("another")
    assert isinstance(model.head, Bare) and model.head.out_features == 4
    assert same_answers(model, returned(model, other))


@pytest.mark.slow
def test_who_has_not_registered_a_head_is_told_to(registered, other):
    headswap.save(tiny_model(head="twins"), other)
    code = """
import sys, headswap
try:
    headswap.load(sys.argv[1])
except headswap.InputError as error:
    print(error)
"""
    told = in_new_process(code, other)
    assert "its head 'twins' is unknown here" in told and "headswap.register_head" in told


def test_a_head_given_as_a_callable_is_refused_with_what_to_do(other):
    with pytest.raises(InputError, match=r"The head Twins .* callable.* headswap\.register_head\('my_head'"):
        headswap.save(tiny_model(head=Twins), other)
    assert not other.exists()


def test_a_recipe_that_is_none_of_ours_is_none(other):
    class Cook(Twins):
        head_config = "two eggs"

    with pytest.raises(InputError, match="Cook was given as a callable"):
        headswap.save(tiny_model(head=Cook), other)


# What is not saved


def test_a_backbone_given_as_a_module_is_refused_with_what_to_do(other):
    model = headswap.adapt(tv.squeezenet1_1(), 2)
    with pytest.raises(InputError, match=r"backbone SqueezeNet was given as a module.*headswap\.backbones\(\)"):
        headswap.save(model, other)


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_no_numbers_are_not_saved(number, other):
    model = tiny_model()
    with torch.no_grad():
        next(model.stages.parameters()).view(-1)[3] = number
    with pytest.raises(InputError, match="no numbers any more"):
        headswap.save(model, other)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_not_saved(kind, other):
    with pytest.raises(InputError, match="in single precision"):
        headswap.save(tiny_model().to(kind), other)


def test_a_model_that_was_changed_by_hand_is_not_saved(other):
    model = tiny_model()
    model.head.linear = nn.Linear(model.head.linear.in_features, 3, bias=False)
    with pytest.raises(InputError, match="changed by hand"):
        headswap.save(model, other)


def test_half_a_character_is_not_saved(other):
    with pytest.raises(InputError, match="half a character"):
        headswap.save(tiny_model(("\ud800", "whole")), other)


def test_what_is_refused_leaves_the_old_file_and_nothing_else(other):
    old = tiny_model(seed=1)
    headswap.save(old, other)
    with pytest.raises(InputError):
        headswap.save(tiny_model(head=Twins), other)
    assert same_answers(old, headswap.load(other))
    assert [path.name for path in other.parent.iterdir()] == [other.name]


def test_a_file_that_would_not_answer_the_same_is_not_kept(other, monkeypatch):
    filled = model_file.load_weights

    def wrongly(*told):
        model = filled(*told)
        with torch.no_grad():
            model.head.linear.bias[0] += 1
        return model

    old = tiny_model(seed=1)
    headswap.save(old, other)
    monkeypatch.setattr(model_file, "load_weights", wrongly)
    with pytest.raises(InputError, match=r"disagrees with the model by 0\.\d+ on 5 images\. It was not written"):
        headswap.save(tiny_model(), other)
    monkeypatch.undo()
    assert same_answers(old, headswap.load(other))


# What is in it


def test_nobodys_images_are_in_it_unless_they_are_given(file):
    assert set(unpacked(file)) == {
        DESCRIPTION_ENTRY,
        f"{DESCRIPTION_ENTRY}.sha256",
        WEIGHTS_ENTRY,
        "README.md",
        "golden/golden.json",
        *(f"golden/{i}.{kind}" for i in range(1, 5) for kind in ("png", "jpg")),
        *("golden/5.png", "golden/5-original.png"),  # which has 16 bits
    }


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Pictures as a telephone takes them: with the place, the owner and a remark."""
    root = tmp_path_factory.mktemp("telling")
    for name in SHAPES:
        (root / name).mkdir()
        for i in range(3):
            exif = Image.Exif()
            exif[0x010E] = "Mrs Secret's garden"
            exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 36.0)})
            shape(name, i, (400, 300)).save(root / name / f"secret-{i}.jpg", exif=exif, comment=b"a secret remark")
    return headswap.load_images(root)


def test_own_images_go_with_it_without_place_name_or_remark(photographs, other):
    headswap.save(tiny_model(photographs.classes), other, photographs)
    content = other.read_bytes()
    assert not re.search(rb"(?i)secret|GPS|Exif", content)
    entries = unpacked(other)
    thumbnails = {name: content for name, content in entries.items() if name.startswith("thumbnails/")}
    assert set(thumbnails) == {f"thumbnails/{label}-{i}.jpg" for label in (1, 2, 3) for i in (1, 2, 3)}
    for name, content in entries.items():
        if name.endswith(".jpg"):
            picture = Image.open(io.BytesIO(content))
            assert not picture.getexif() and "comment" not in picture.info, name
            assert picture.size == (128, 128) if name in thumbnails else min(picture.size) == 360


def test_so_many_thumbnails_of_a_class_and_no_more(images, other, monkeypatch):
    monkeypatch.setattr(model_file, "MAX_THUMBNAILS_PER_CLASS", 4)
    headswap.save(tiny_model(images.classes), other, images)
    assert sum(name.startswith("thumbnails/") for name in unpacked(other)) == 4 * len(images.classes)


def test_nothing_of_this_machine_is_in_it(images, other):
    model = tiny_model(images.classes)
    headswap.fit(model, images, HEAD_ONLY)
    headswap.save(model, other, images)
    content = other.read_bytes()
    told = {str(Path.home()), tempfile.gettempdir(), str(other.parent), str(Path.cwd()), socket.gethostname()}
    told |= {getpass.getuser(), *(str(path) for path in images.paths), str(images.paths[0].parent)}
    for word in told:
        assert len(word) < 4 or word.encode() not in content, word


def test_it_is_never_compressed_and_has_one_date(file):
    with zipfile.ZipFile(file) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_card_says_how_to_use_it_by_its_name(file):
    card = unpacked(file)["README.md"].decode()
    assert "headswap.load('shapes.headswap')" in card and "# shapes" in card


# Class names that are code

CODE = (
    r"$\frac",
    "<script>alert(1)</script>",
    "a|b",
    "two\nlines\n---\nlicense: mit",
    "# heading",
    "[link](javascript:alert(1))",
    "![](http://example.org/x.png)",
    "`code`",
    "😀 emoji",
    "猫と犬",
    "$x_{",
    "{{ template }}",
    "'; DROP",
    "\u202eright to left",
    "- item",
    "x" * 200,
)


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, len(CODE) - 2, 3))])
def test_names_that_are_code_are_text_in_the_card_and_in_the_pictures(tmp_path, other, first):
    images = load_shapes(tmp_path / "shapes", each=4)
    model = small_model(images.classes)
    headswap.fit(model, images, HEAD_ONLY)
    names = CODE[first : first + 3]
    model.classes = names
    counts = dict(zip(names, model.record.class_counts.values(), strict=True))
    model.record = dataclasses.replace(model.record, class_counts=counts)
    again = returned(model, other)
    assert again.classes == names and again.record == model.record
    entries = unpacked(other)
    card = entries["README.md"].decode()
    _, front, body = card.split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["license"] == "other" and told["tags"] == ["image-classification", "transfer-learning", "headswap"]
    assert "<script" not in body and not re.search(r"(?<!\\)\]\((javascript|http)", body)
    assert body.count("\n---") == body.count("\n---|") == 0
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (3, 2) for row in rows), rows
    for picture in ("confusion.png", "curves.png"):
        Image.open(io.BytesIO(entries[picture])).verify()


# What is refused


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert "is not there" in refusal(tmp_path / "nothing.headswap")


def test_a_folder_is_refused(tmp_path):
    assert "is no file" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "nul\0inside", "no/such/folder/model.headswap"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(InputError):
        headswap.load(name)
    with pytest.raises(InputError):
        headswap.save(tiny_model(), name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in refusal(tmp_path / "pipe")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all" * 100, b"PK\5\6" + bytes(18), b"\x80\x04K*."])
def test_what_is_no_model_is_refused(content, other):
    other.write_bytes(content)
    assert "Save or download it again." in refusal(other)


def test_a_file_that_was_cut_short_is_refused_wherever(file, other):
    content = file.read_bytes()
    places = {1, 30, len(content) - 1, len(content) - 22, *range(0, len(content), len(content) // 40)}
    for place in sorted(places):
        other.write_bytes(content[:place])
        refusal(other)
        # Without its beginning, where the description's hash lies, it may be whole but for that, which is told.
        other.write_bytes(content[place:] if place else b"")
        with pytest.raises((InputError, headswap.DamageWarning), match=r"save or download it again|Save or download"):
            headswap.load(other)


@pytest.mark.parametrize("entry", [DESCRIPTION_ENTRY, WEIGHTS_ENTRY])
def test_a_missing_entry_is_named(entry, file, other):
    entries = unpacked(file)
    entries.pop(entry)
    assert f"{entry} is missing" in refusal(packed(other, entries))


def test_a_compressed_file_is_refused(file, other):
    assert "packed anew" in refusal(packed(other, unpacked(file), zipfile.ZIP_DEFLATED))


def test_two_entries_of_one_name_are_refused(file, other):
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(other, "w") as archive:
        for name, content in unpacked(file).items():
            archive.writestr(name, content)
        archive.writestr(DESCRIPTION_ENTRY, b"{}")
    assert "same name" in refusal(other)


def patched(file, other, entry, offset, content):
    """The file with other bytes in what its list says of an entry."""
    raw = bytearray(file.read_bytes())
    place = raw.rindex(b"PK\1\2", 0, raw.rindex(entry.encode())) + offset
    raw[place : place + len(content)] = content
    other.write_bytes(raw)
    return other


@pytest.mark.parametrize("entry", [DESCRIPTION_ENTRY, WEIGHTS_ENTRY])
def test_an_encrypted_file_is_refused(entry, file, other):
    assert "packed anew" in refusal(patched(file, other, entry, 8, b"\1\0"))


@pytest.mark.parametrize("entry", [DESCRIPTION_ENTRY, WEIGHTS_ENTRY])
@pytest.mark.parametrize("size", [0, 1, 10_000_000, 2**31, 2**32 - 2])
def test_an_entry_that_lies_about_its_length_is_refused(entry, size, file, other):
    refusal(patched(file, other, entry, 20, struct.pack("<II", size, size)))


def test_a_list_of_entries_that_lies_about_its_length_is_refused(file, other):
    content = file.read_bytes()
    for size in (0, 10**6, 2**30, 2**32 - 2):
        other.write_bytes(content[:-10] + struct.pack("<I", size) + content[-6:])
        refusal(other)


def change(**values):
    """What writes these into a description."""
    return lambda said: said.update(values)


def inside(key, **values):
    """What writes these into a part of a description."""
    return lambda said: said[key].update(values)


REDESCRIBED = {
    "a newer format": (change(format=3), "a newer headswap saved it, in format 3 instead of 2. Update headswap"),
    "a far newer format": (lambda said: {"format": 10**3000}, "newer headswap"),
    "format zero": (change(format=0), "make no sense"),
    "no format": (lambda said: dict(said, format=None), "make no sense"),
    "no classes": (lambda said: said.pop("classes") and None, "description is damaged"),
    "an unknown backbone": (change(backbone="resnet5000"), "backbone 'resnet5000' is unknown here"),
    "a hub's backbone": (change(backbone="hf-hub:timm/resnet18.a1_in1k"), "is unknown here"),
    "timm's way to a hub": (change(backbone="timm/hf-hub:timm/resnet18.a1_in1k"), "is unknown here"),
    "a folder as a backbone": (change(backbone="local-dir:/etc"), "is unknown here"),
    "a path as a backbone": (change(backbone="/etc/passwd"), "is unknown here"),
    "a backbone of lines": (change(backbone="a\nb\x1b[31m" * 1000), "is unknown here"),
    "a backbone of megabytes": (change(backbone="timm/" + "x" * 5_000_000), "is unknown here"),
    "no backbone": (change(backbone=None), "description is damaged"),
    "another backbone": (change(backbone="squeezenet1_0"), "do not fit"),
    "not a square": (change(backbone="timm/vit_base_patch16_sapiens2"), "not square"),
    "an unknown head": (change(head="hydra"), "head 'hydra' is unknown here"),
    "a head of megabytes": (change(head="x\n" * 2_000_000), "is unknown here"),
    "a head that is a class": (change(head="torch.nn.Linear"), "is unknown here"),
    "another head": (change(head="lda", head_options={}), "do not fit"),
    "an option of another type": (inside("head_options", dropout="0"), "options of its linear head"),
    "an option that is a list": (inside("head_options", dropout=[1]), "options of its linear head"),
    "an option too many": (inside("head_options", device="cuda"), "options of its linear head"),
    "no options": (change(head_options={}), "options of its linear head"),
    "an option out of range": (inside("head_options", dropout=7.5), "cannot be built"),
    "a huge option": (inside("head_options", dropout=2**63), "cannot be built"),
    "an option beyond reckoning": (inside("head_options", dropout=10**4000), "make no sense"),
    "a wide head": (
        change(head="mlp", head_options={"hidden_dims": [10**9] * 3, "dropout": 0.1}),
        "from one unit to 65,536",
    ),
    "a deep head": (
        change(head="mlp", head_options={"hidden_dims": [1] * 90_000, "dropout": 0.1}),
        "from one layer to 32",
    ),
    "a large head": (change(head="mlp", head_options={"hidden_dims": [65536] * 32, "dropout": 0.1}), "do not fit"),
    "one class": (change(classes=["a"]), "1 classes instead of two"),
    "too many classes": (change(classes=[f"class {i}" for i in range(50_000)]), "50,000 classes instead of two"),
    "a million classes": (change(classes=["a"] * 1_000_000), "make no sense"),
    "classes that are numbers": (change(classes=[1] * 90_000), "description is damaged"),
    "the same class twice": (change(classes=["a", "b", "a"]), "with names of their own"),
    "another class": (change(classes=["a", "b", "c", "d"]), "do not fit"),
    "a long class": (change(classes=["a", "b", "c" * 501]), "the name of a class is too long"),
    "half a class": (change(classes=["a", "b", "\ud800"]), "half a character"),
    "several labels": (change(multi_label=True), "do not fit"),
    "several labels of lda": (
        change(multi_label=True, head="lda", head_options={}),
        "cannot be built: The head 'lda' tells one class",
    ),
    "no pixels": (inside("preprocess", size=0), "makes no sense"),
    "very many pixels": (inside("preprocess", size=100_000, resize=100_000), "makes no sense"),
    "a large resize": (inside("preprocess", resize=10**9), "makes no sense"),
    "an unknown interpolation": (inside("preprocess", interpolation="nearest"), "makes no sense"),
    "an unknown crop": (inside("preprocess", crop="x" * 1_000_000), "description is damaged"),
    "no deviation": (inside("preprocess", std=[0, 1, 1]), "makes no sense"),
    "hardly any deviation": (inside("preprocess", std=[1e-30, 1, 1]), "makes no sense"),
    "two colours": (inside("preprocess", mean=[0.5, 0.5]), "description is damaged"),
    "a huge mean": (inside("preprocess", mean=[1e18, 0, 0]), "makes no sense"),
    "no number": (inside("preprocess", mean=[float("nan"), 0, 0]), "make no sense"),
    "infinity": (inside("preprocess", mean=[float("-inf"), 0, 0]), "make no sense"),
    "infinity in the record": (change(versions={"torch": float("inf")}), "make no sense"),
    "more than a number": (lambda said: json.dumps(said).replace('"size": ', '"size": 1e999, "x": ').encode(), "sense"),
    "stages below none": (change(learning_stages=-1), "damaged"),
    "stages above all": (change(learning_stages=99), "more of its stages learn than there are"),
    "weights of another sum": (change(sha256="0" * 64), "not those that it was saved with"),
    "no record": (change(record=7), "description is damaged"),
    "deep": (lambda said: b"[" * 90_000, "damaged"),
    "deep in it": (lambda said: b'{"format":1,"x":' + b"[" * 90_000 + b"]" * 90_000 + b"}", "damaged"),
    "wide": (lambda said: b'{"format":1,"x":[' + b"[]," * 1_000_000 + b"[]]}", "too much"),
    "long": (lambda said: b'{"format":1,"x":"' + b"x" * (16 * 2**20) + b'"}', "description is too long"),
    "a number of a million digits": (lambda said: b'{"format":' + b"1" * 1_000_000 + b"}", "damaged"),
    "a list": (lambda said: b"[]", "does not say what it is"),
    "nothing": (lambda said: b"", "damaged"),
    "no text": (lambda said: b"\xff\xfe\x00", "damaged"),
    "twice": (lambda said: b'{"format":1,"format":1}', "something twice"),
}


@pytest.mark.parametrize("case", REDESCRIBED)
def test_a_description_that_cannot_be_is_refused(case, file, other):
    wrong, why = REDESCRIBED[case]
    began = time.perf_counter()
    redescribed(file, other, wrong)
    told = refusal(other)
    assert why in told, told
    assert time.perf_counter() - began < 20


def test_a_description_that_says_more_is_understood_in_its_format(file, other):
    redescribed(file, other, change(mood="sunny"))
    with pytest.warns(headswap.DamageWarning, match="do not agree"):  # a newer version has said so by its hash as well
        again = headswap.load(other)
    assert again.classes == headswap.load(file).classes


def tensors(change_row):
    """What writes into the row of the first tensor of a table."""

    def wrong(table, numbers):
        key = next(name for name in table if name.endswith("weight"))
        change_row(table, key)
        return joined(table, numbers)

    return wrong


def swapped(table, numbers):
    """Two tensors of the same shape under each other's names."""
    mean, variance = (next(key for key in table if key.endswith(end)) for end in ("running_mean", "running_var"))
    table[mean], table[variance] = table[variance], table[mean]
    return joined(table, numbers)


def poisoned(number):
    """What writes no number into the numbers."""

    def wrong(table, numbers):
        begin = next(row["data_offsets"][0] for row in table.values() if row["dtype"] == "F32")
        return joined(table, numbers[:begin] + struct.pack("<f", number) + numbers[begin + 4 :])

    return wrong


REWEIGHED = {
    "another name": (tensors(lambda t, k: t.update({"x" * 5000: t.pop(k)})), "more than its description|do not fit"),
    "another shape": (tensors(lambda t, k: t[k].update(shape=t[k]["shape"][::-1])), "do not fit"),
    "a shape below zero": (tensors(lambda t, k: t[k].update(shape=[-1, *t[k]["shape"][1:]])), "do not fit"),
    "a huge shape": (tensors(lambda t, k: t[k].update(shape=[2**62, 2**62])), "do not fit"),
    "half precision": (tensors(lambda t, k: t[k].update(dtype="F16")), "do not fit"),
    "no type": (tensors(lambda t, k: t[k].update(dtype=["F32"])), "damaged"),
    "one too few": (tensors(lambda t, k: t.pop(k)), "do not fit"),
    "one too many": (tensors(lambda t, k: t.update({"extra": t[k]})), "do not fit"),
    "offsets that overlap": (tensors(lambda t, k: t[k].update(data_offsets=[0, 4])), "damaged"),
    "offsets beyond": (tensors(lambda t, k: t[k].update(data_offsets=[2**40, 2**41])), "damaged"),
    "offsets backwards": (tensors(lambda t, k: t[k].update(data_offsets=[40, 0])), "damaged"),
    "no offsets": (tensors(lambda t, k: t[k].pop("data_offsets")), "damaged"),
    "fewer numbers": (lambda table, numbers: joined(table, numbers[:-4]), "cut short"),
    "more numbers": (lambda table, numbers: joined(table, numbers + bytes(4)), "cut short"),
    "no numbers": (lambda table, numbers: joined(table, b""), "cut short"),
    "not a number": (poisoned(float("nan")), "no numbers"),
    "infinity": (poisoned(float("inf")), "no numbers"),
    "answers that are no numbers": (swapped, "no numbers"),
    "a longer table": (lambda table, numbers: struct.pack("<Q", 2**63) + joined(table, numbers)[8:], "more than"),
    "a shorter table": (lambda table, numbers: struct.pack("<Q", 10) + joined(table, numbers)[8:], "damaged"),
    "a table that is a list": (lambda table, numbers: joined([], numbers), "does not say"),
    "a deep table": (lambda table, numbers: struct.pack("<Q", 40_000) + b"[" * 40_000 + numbers, "damaged"),
    "seven bytes": (lambda table, numbers: bytes(7), "damaged"),
    "nothing": (lambda table, numbers: b"", "damaged"),
}


@pytest.mark.parametrize("case", REWEIGHED)
def test_weights_that_cannot_be_are_refused(case, file, other):
    wrong, why = REWEIGHED[case]
    reweighed(file, other, wrong)
    told = refusal(other)
    assert re.search(why, told), told


def test_a_truth_value_is_yes_or_no(other, tmp_path):
    path = tmp_path / "lda.headswap"
    headswap.save(tiny_model(head="lda"), path)

    def wrong(table, numbers):
        begin, _ = table["head.normalise.root"]["data_offsets"]
        return joined(table, numbers[:begin] + b"\2" + numbers[begin + 1 :])

    reweighed(path, other, wrong)
    assert "no numbers" in refusal(other)


def test_weights_that_changed_on_the_way_are_refused(file, other):
    entries = unpacked(file)
    entries[WEIGHTS_ENTRY] = entries[WEIGHTS_ENTRY][:-1] + bytes([entries[WEIGHTS_ENTRY][-1] ^ 1])
    assert "not those that it was saved with" in refusal(packed(other, entries))
    other.write_bytes(file.read_bytes().replace(parted(unpacked(file)[WEIGHTS_ENTRY])[1][:16], bytes(16), 1))
    assert "damaged" in refusal(other)


GIANTS = {"vit_h_14": 518, "regnet_y_128gf": 384, "timm/eva_giant_patch14_224": 224}


@pytest.mark.subprocess
@LINUX
def test_a_kilobyte_that_says_it_is_a_giant_costs_nothing(file, tmp_path):
    for place, (backbone, side) in enumerate(GIANTS.items()):

        def giant(said, backbone=backbone, side=side):
            said["backbone"] = backbone
            said["preprocess"].update(size=side, resize=side)

        redescribed(file, tmp_path / f"{place}.headswap", giant)
    code = f"""{BOUNDED}
import sys, headswap
headswap.load(sys.argv[1])
bound(300)
for file in sys.argv[2:]:
    try:
        headswap.load(file)
    except headswap.InputError as error:
        print(error)
"""
    told = in_new_process(code, file, *sorted(tmp_path.glob("*.headswap"))).splitlines()
    assert len(told) == len(GIANTS) and all("do not fit its description" in line for line in told)


class Creates:
    """What creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_in_it_is_unpickled(file, other, tmp_path):
    trap = tmp_path / "sprung"
    evil = pickle.dumps(Creates(trap))
    entries = unpacked(file)
    torch.save({"head": Creates(trap)}, tmp_path / "torch")
    forms = [
        packed(tmp_path / "1", entries | {WEIGHTS_ENTRY: evil}),
        packed(tmp_path / "2", entries | {DESCRIPTION_ENTRY: evil}),
        packed(tmp_path / "3", entries | {WEIGHTS_ENTRY: (tmp_path / "torch").read_bytes()}),
        packed(tmp_path / "4", unpacked(tmp_path / "torch")),
        tmp_path / "torch",
    ]
    (tmp_path / "5").write_bytes(evil)
    reweighed(file, tmp_path / "6", lambda table, numbers: evil)
    for path in (*forms, tmp_path / "5", tmp_path / "6"):
        refusal(path)
        assert not trap.exists(), path.name
    with pytest.warns(headswap.DamageWarning, match=r"archive/data\.pkl was added, data\.pkl was added"):
        headswap.load(packed(other, entries | {"archive/data.pkl": evil, "data.pkl": evil}))
    assert not trap.exists()
    pickle.loads(evil).close()
    assert trap.exists(), "the trap would not have sprung"
