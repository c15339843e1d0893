"""A file proves itself when it opens: whatever was damaged is refused or told, and old files open in silence."""

import hashlib
import json
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import TINY, one_sentence, packed, redescribed, reweighed, same_answers, tiny_model, unpacked
from drawings import HEAD_ONLY, SHAPES, load_shapes, shape, small_model

import headswap
from headswap import DamageWarning, InputError
from headswap.export.integrity import CHECKSUM_SUFFIX, GOLDEN_PREFIX
from headswap.export.model_file import DESCRIPTION_ENTRY, WEIGHTS_ENTRY, load_and_verify

OLD = Path(__file__).parents[1] / "files" / "format-1.headswap"
PARTS = ("README.md", "confusion.png", "curves.png", "golden/golden.json", "golden/1.png", "golden/5-original.png")
PARTS = (DESCRIPTION_ENTRY, DESCRIPTION_ENTRY + CHECKSUM_SUFFIX, WEIGHTS_ENTRY, *PARTS, "thumbnails/1-1.jpg")


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A small model with a past."""
    images = load_shapes(tmp_path_factory.mktemp("taught") / "shapes", each=4)
    model = small_model(images.classes, backbone=TINY)
    headswap.fit(model, images, HEAD_ONLY)
    return model, images


@pytest.fixture(scope="module")
def file(taught, tmp_path_factory):
    """Its file, with images along; not to be written to."""
    path = tmp_path_factory.mktemp("saved") / "shapes.headswap"
    headswap.save(*taught[:1], path, taught[1])
    return path


@pytest.fixture
def other(tmp_path):
    """Where another file may lie."""
    return tmp_path / "other.headswap"


def told(path):
    """What is said of a file that opens, by a warning, and why another is refused."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            headswap.load(path)
        except InputError as error:
            assert not caught
            return str(error)
    if not caught:
        return ""
    [warning] = caught
    assert warning.category is DamageWarning and warning.filename == __file__
    assert one_sentence(str(warning.message), path.name)
    return str(warning.message)


# Damage


def flipped(content, at=0.5):
    """One bit of it the other way."""
    place = int(len(content) * at)
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGES = {
    "a bit of it": lambda content: flipped(content, 0.999),
    "half of it": lambda content: content[: len(content) // 2],
    "nothing left": lambda content: b"",
    "more than it was": lambda content: content + b"\0",
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("how", DAMAGES)
def test_a_part_that_was_damaged_is_refused_or_told_by_name(how, part, file, other):
    entries = unpacked(file)
    packed(other, entries | {part: DAMAGES[how](entries[part])})
    said = told(other)
    assert said, f"{part} with {how} opened without a word"
    assert (part in said) or part in (DESCRIPTION_ENTRY, WEIGHTS_ENTRY)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing_is_refused_or_told_by_name(part, file, other):
    entries = unpacked(file)
    entries.pop(part)
    assert f"{part} is missing" in told(packed(other, entries))


def test_two_parts_in_each_others_place_are_refused_or_told(file, other):
    for one, another in zip(PARTS, PARTS[1:] + PARTS[:1], strict=True):
        entries = unpacked(file)
        entries[one], entries[another] = entries[another], entries[one]
        assert told(packed(other, entries)), (one, another)


def test_every_entry_without_exception_is_guarded(file, other):
    entries = unpacked(file)
    for part, content in entries.items():
        assert told(packed(other, entries | {part: flipped(content)})), part


def test_a_bit_that_tipped_on_the_disk_is_refused_or_told(file, other):
    content = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        places = {info.filename: info.header_offset for info in archive.infolist()}
    for part in PARTS:
        (name, extra) = struct.unpack("<HH", content[places[part] + 26 : places[part] + 30])
        place = places[part] + 30 + name + extra
        other.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert told(other), part


def test_what_was_added_is_told(file, other):
    assert "notes.txt was added" in told(packed(other, unpacked(file) | {"notes.txt": b"mine"}))


def test_many_damages_are_one_short_sentence(file, other):
    entries = {name: content[:9] if "/" in name else content for name, content in unpacked(file).items()}
    said = told(packed(other, entries | {f"{'x' * 300}{i}\n": b"" for i in range(50)}))
    assert "more" in said and len(said) < 400


def test_a_damaged_file_is_still_the_model(taught, file, other):
    packed(other, unpacked(file) | {"README.md": b"another card"})
    with pytest.warns(DamageWarning, match="weights and classes are whole"):
        assert same_answers(headswap.load(other), taught[0])


def test_what_a_file_says_of_itself_may_not_be_changed_in_silence(file, other):
    redescribed(file, other, lambda said: said["record"]["result"].update(correct=0, score=0.0))
    said = told(other)
    assert (
        f"{DESCRIPTION_ENTRY} and {DESCRIPTION_ENTRY}{CHECKSUM_SUFFIX} do not agree" in said
        and "Do not rely on it" in said
    )


def resealed(entries):
    """With right hashes of all that is in it, as by somebody who means it."""
    said = json.loads(entries[DESCRIPTION_ENTRY])
    said["entries"] = {name: hashlib.sha256(entries[name]).hexdigest() for name in said["entries"]}
    described = json.dumps(said).encode()
    own = f"{hashlib.sha256(described).hexdigest()}  {DESCRIPTION_ENTRY}\n".encode()
    return entries | {DESCRIPTION_ENTRY: described, DESCRIPTION_ENTRY + CHECKSUM_SUFFIX: own}


def test_the_right_hashes_of_a_file_are_those_of_sha256sum(file, other):
    entries = unpacked(file)
    assert (
        unpacked(packed(other, resealed(entries)))[DESCRIPTION_ENTRY + CHECKSUM_SUFFIX]
        != entries[DESCRIPTION_ENTRY + CHECKSUM_SUFFIX]
    )
    assert told(other) == ""


# Golden images


def test_a_model_that_answers_otherwise_is_told_by_how_much(file, other):
    def louder(table, numbers):
        begin, end = table["head.linear.bias"]["data_offsets"]
        bias = np.frombuffer(numbers[begin:end], "<f4") + np.float32([5, 0, 0])
        head = json.dumps(table).encode()
        return struct.pack("<Q", len(head)) + head + numbers[:begin] + bias.astype("<f4").tobytes() + numbers[end:]

    reweighed(file, other, louder)
    packed(other, resealed(unpacked(other)))
    said = told(other)
    assert "answers its golden images otherwise, by up to 0." in said and "Do not rely on it" in said


def test_classes_in_another_order_are_told(file, other):
    redescribed(file, other, lambda said: said["classes"].reverse())
    packed(other, resealed(unpacked(other)))
    assert "other classes" in told(other)


WRONG = {
    "no JSON": b"{",
    "a list": b"[]",
    "no images": json.dumps({"classes": sorted(SHAPES), "images": []}).encode(),
    "a million images": b'{"images":[' + b"0," * 1_000_000 + b"0]}",
    "answers that are text": json.dumps(
        {"classes": sorted(SHAPES), "images": [{"pixels": "1.png", "probabilities": ["a", "b", "c"]}]}
    ).encode(),
    "too many answers": json.dumps(
        {"classes": sorted(SHAPES), "images": [{"pixels": "1.png", "probabilities": [0.5] * 4}]}
    ).encode(),
    "a picture outside": json.dumps(
        {"classes": sorted(SHAPES), "images": [{"pixels": "../../etc/passwd", "probabilities": [0.2, 0.3, 0.5]}]}
    ).encode(),
    "an original as pixels": json.dumps(
        {"classes": sorted(SHAPES), "images": [{"pixels": "1.jpg", "probabilities": [0.2, 0.3, 0.5]}]}
    ).encode(),
    "no number": json.dumps(
        {"classes": sorted(SHAPES), "images": [{"pixels": "1.png", "probabilities": [float("nan")] * 3}]}
    ).encode(),
}


@pytest.mark.parametrize("case", WRONG)
def test_golden_images_that_make_no_sense_are_told(case, file, other):
    entries = resealed(unpacked(file) | {GOLDEN_PREFIX + "golden.json": WRONG[case]})
    assert "golden images" in told(packed(other, entries))


def test_another_machines_rounding_is_no_damage(file, other):
    entries = unpacked(file)
    known = json.loads(entries[GOLDEN_PREFIX + "golden.json"])
    known["images"][0]["probabilities"][0] += 5e-5
    packed(other, resealed(entries | {GOLDEN_PREFIX + "golden.json": json.dumps(known).encode()}))
    assert told(other) == ""


def test_a_whole_file_opens_without_a_word_and_draws_no_random_number(taught, file):
    random = torch.get_rng_state()
    model, said = load_and_verify(file)
    assert said == "" and told(file) == "" and same_answers(model, taught[0])
    assert torch.equal(random, torch.get_rng_state())


def test_a_file_of_somebodys_own_name_for_it_is_whole(taught, tmp_path):
    shutil.copy(OLD, tmp_path / "renamed")
    assert told(tmp_path / "renamed") == ""


# Files of long ago


def test_a_file_of_the_first_format_opens_without_a_word_and_answers_as_it_did(tmp_path):
    assert told(OLD) == ""
    model = headswap.load(OLD)
    assert model.classes == ("bars", "boxes", "dots") and model.backbone == TINY
    assert model.record.result.total == 6 and model.record.class_counts == dict.fromkeys(model.classes, 8)
    assert not model.seen
    known = json.loads(unpacked(OLD)[GOLDEN_PREFIX + "golden.json"])
    squares = []
    for row in known["images"]:
        (tmp_path / row["pixels"]).write_bytes(unpacked(OLD)[GOLDEN_PREFIX + row["pixels"]])
        squares.append(headswap.data.decoding.read_pixels(tmp_path / row["pixels"], model.preprocess.size))
    expected = torch.tensor([row["probabilities"] for row in known["images"]])
    assert torch.allclose(model.predict_proba_cropped(torch.stack(squares)), expected, atol=1e-4)


def test_a_file_of_the_first_format_has_no_hashes_and_its_golden_images_are_asked_all_the_same(other):
    entries = unpacked(OLD)
    assert (
        not {"entries", "seen"} & json.loads(entries[DESCRIPTION_ENTRY]).keys()
        and DESCRIPTION_ENTRY + CHECKSUM_SUFFIX not in entries
    )
    assert told(packed(other, entries | {GOLDEN_PREFIX + "2.png": entries[GOLDEN_PREFIX + "1.png"]}))
    entries.pop(GOLDEN_PREFIX + "golden.json")
    assert "its golden images are missing" in told(packed(other, entries))


def test_a_file_of_the_first_format_learns_on_and_is_saved_anew(tmp_path, other):
    images = load_shapes(tmp_path / "shapes", each=4)
    model = headswap.load(OLD)
    assert "Whether it has learned from these images is not known" in str(headswap.evaluate(model, images))
    headswap.fit(model, images, HEAD_ONLY)
    headswap.save(model, other)
    assert told(other) == "" and headswap.load(other).seen == model.seen
    assert headswap.load(other).predict_labels(shape("dots")) == model.predict_labels(shape("dots"))


def test_hashes_that_are_none_are_refused_or_told(file, other):
    for wrong in (7, ["a"], {"README.md": 7}, {"README.md": "0"}, {"nowhere": "0" * 64}):
        redescribed(file, other, lambda said, wrong=wrong: said.update(entries=wrong))
        assert told(other)


def test_saving_over_a_damaged_file_mends_it(other):
    model = tiny_model()
    headswap.save(model, other)
    packed(other, unpacked(other) | {"README.md": b""})
    with pytest.warns(DamageWarning, match=r"README\.md is damaged"):
        again = headswap.load(other)
    headswap.save(again, other)
    assert told(other) == ""
