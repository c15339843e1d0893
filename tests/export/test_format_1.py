"""Descriptions of format 1 get the names of format 2; nothing else in them changes, and nothing in them is trusted."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
from bundles import described, packed, refusal, unpacked

import headswap
from headswap.data.leakage import SeenImages
from headswap.export.format_1 import rename_format_1_fields
from headswap.export.model_file import DESCRIPTION_ENTRY
from headswap.export.schema import FORMAT, ModelDescription
from headswap.networks.preprocess import Preprocess
from headswap.training.plan import Phase, Plan
from headswap.training.record import Record, ValidationResult

OLD = Path(__file__).parents[1] / "files" / "format-1.headswap"

# Where a field lies, its name in format 1, its name in format 2, and the class that has it.
RENAMED = [
    ((), "licence", "license", ModelDescription),
    (("preprocess",), "deviation", "std", Preprocess),
    (("seen",), "learned", "training_hashes", SeenImages),
    (("seen",), "judged", "validation_hashes", SeenImages),
    (("seen",), "stages", "stages_trained", SeenImages),
    (("seen",), "forgotten", "is_truncated", SeenImages),
    (("record",), "images", "class_counts", Record),
    (("record",), "learned", "num_training_images", Record),
    (("record",), "stretches", "phases", Record),
    (("record",), "kept", "checkpoint", Record),
    (("record",), "chosen", "selected_on_validation", Record),
    (("record", "result"), "right", "correct", ValidationResult),
    (("record", "result"), "of", "total", ValidationResult),
    (("record", "reference"), "right", "correct", ValidationResult),
    (("record", "reference"), "of", "total", ValidationResult),
    (("record", "plan"), "soften", "head_loss_ratio", Plan),
    (("record", "plan"), "keep", "checkpoint", Plan),
    (("record", "plan"), "share", "weight_interpolation", Plan),
    (("record", "plan"), "validation", "validation_fraction", Plan),
    (("record", "plan"), "class_weights", "balance_classes", Plan),
    (("record", "plan", "phases"), "head_rate", "head_lr", Phase),
    (("record", "plan", "phases"), "backbone_rate", "backbone_lr", Phase),
    (("record", "plan", "phases"), "deeper", "layer_decay", Phase),
    (("record", "plan", "phases"), "warm_up", "warmup_ratio", Phase),
]
NAMES = ["/".join((*path, old)) for path, old, _, _ in RENAMED]


def nested(path, field):
    """A description that holds one field alone; phases are a list."""
    for name in reversed(path):
        field = {name: [field] if name == "phases" else field}
    return field


def containers(description, path):
    """The dictionaries at a path."""
    found = [description]
    for name in path:
        found = [item for each in found for item in (each[name] if name == "phases" else [each[name]])]
    return found


@pytest.mark.parametrize(("path", "old", "new", "owner"), RENAMED, ids=NAMES)
def test_a_renamed_field_keeps_its_value_and_its_place(path, old, new, owner):
    assert rename_format_1_fields(nested(path, {old: 7, "other": 8})) == nested(path, {new: 7, "other": 8})
    assert new in {field.name for field in fields(owner)}


@pytest.mark.parametrize(("path", "old", "new", "owner"), RENAMED, ids=NAMES)
def test_a_field_that_was_never_renamed_is_left_alone(path, old, new, owner):
    unknown = nested((*path, "unknown"), {old: 7})
    assert rename_format_1_fields(unknown) == unknown
    assert rename_format_1_fields({"versions": {old: 7}}) == {"versions": {old: 7}}


def test_a_description_of_format_2_is_left_alone_and_the_given_one_always():
    old = described(OLD)
    before = json.dumps(old)
    new = rename_format_1_fields(old)
    assert json.dumps(old) == before
    assert rename_format_1_fields(new) == new != old


JUNK = [None, 7, "licence", True, [], ["deviation"], [[{"right": 1}], 2], {"learned": 7, "deviation": {"right": 1}}]


@pytest.mark.parametrize("junk", JUNK, ids=repr)
@pytest.mark.parametrize("path", sorted({path for path, *_ in RENAMED if path}), ids="/".join)
def test_junk_stays_junk_and_is_refused(junk, path, tmp_path):
    *parents, name = path
    assert set(rename_format_1_fields({name: junk})) == {name}
    description = described(OLD)
    if path == ("seen",):
        description["seen"] = {}
    for container in containers(description, parents):
        container[name] = junk
    entries = unpacked(OLD) | {DESCRIPTION_ENTRY: json.dumps(description).encode()}
    if junk is None and name in ("record", "reference"):
        headswap.load(packed(tmp_path / "none.headswap", entries))  # which these may be
    else:
        assert "its description is damaged" in refusal(packed(tmp_path / "junk.headswap", entries))


@pytest.mark.parametrize(("path", "old", "new", "owner"), RENAMED, ids=NAMES)
def test_an_old_name_in_a_file_of_format_2_is_refused(path, old, new, owner, tmp_path):
    description = rename_format_1_fields(described(OLD)) | {"format": FORMAT}
    description.setdefault("seen", {})
    for container in containers(description, path):
        container[old] = container.pop(new, None)
    entries = unpacked(OLD) | {DESCRIPTION_ENTRY: json.dumps(description).encode()}
    assert "names of an older format" in refusal(packed(tmp_path / "mixed.headswap", entries))


def test_the_same_file_opens_with_the_names_of_format_2(tmp_path):
    description = rename_format_1_fields(described(OLD)) | {"format": FORMAT}
    entries = unpacked(OLD) | {DESCRIPTION_ENTRY: json.dumps(description).encode()}
    old, new = headswap.load(OLD), headswap.load(packed(tmp_path / "new.headswap", entries))
    assert new.record == old.record and new.preprocess == old.preprocess and new.classes == old.classes
