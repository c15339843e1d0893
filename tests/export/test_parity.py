"""Golden images prove what a model became, and show nobody's pictures unless they are given."""

import dataclasses
import io
import json

import numpy as np
import pytest
import torch
from bundles import tiny_model
from drawings import SHAPES, load_shapes, shape
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

import headswap
from headswap.data.decoding import read_pixels
from headswap.export.parity import (
    NUM_16_BIT_CANDIDATES,
    NUM_GOLDEN_SAMPLES,
    NUM_SYNTHETIC_CANDIDATES,
    PARITY_TOLERANCE,
    ParityError,
    check_parity,
    draw_synthetic_image,
    make_golden_samples,
    to_12_bit_gray,
)


@pytest.fixture(scope="module")
def model():
    """It tells three classes by random weights that are loud enough to be sure of something."""
    model = tiny_model(sorted(SHAPES))
    with torch.no_grad():
        model.head.linear.weight.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def known(model):
    return make_golden_samples(model)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("shapes") / "shapes", each=9)


def answers(model):
    """What a model says of squares ``[N, size, size, 3]``."""
    return lambda squares: model.predict_proba_cropped(squares.movedim(-1, 1))


def read_again(known):
    """Of each image the told answers, the pixels and the original, from the files alone."""
    files = known.to_files()
    told = json.loads(files["golden.json"])
    for row in told["images"]:
        yield row["probabilities"], files[row["pixels"]], files[row["original"]]


# What they are


def test_there_are_five_with_the_models_answers(model, known):
    size = model.preprocess.size
    assert known.pixels.shape == (NUM_GOLDEN_SAMPLES, size, size, 3) and known.pixels.dtype == torch.uint8
    assert len(known.original_files) == NUM_GOLDEN_SAMPLES == 5
    assert torch.equal(known.probabilities, answers(model)(known.pixels))
    assert len({square.numpy().tobytes() for square in known.pixels}) == NUM_GOLDEN_SAMPLES


def test_the_files_tell_what_is_in_them(known):
    files = known.to_files()
    told = json.loads(files["golden.json"])
    originals = [*(f"{i}.jpg" for i in range(1, 5)), "5-original.png"]
    assert set(files) == {"golden.json", *(f"{i}.png" for i in range(1, 6)), *originals}
    assert [row["original"] for row in told["images"]] == originals
    assert told["classes"] == list(known.classes) and told["agreement"] == PARITY_TOLERANCE
    assert [row["pixels"] for row in told["images"]] == [f"{i}.png" for i in range(1, 6)]


def test_the_exact_pixels_come_back_from_the_png_to_the_bit(known):
    for square, (_, pixels, _) in zip(known.pixels, read_again(known), strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(pixels))), square.numpy())


def test_the_told_answers_are_those_of_the_pixels(model, known):
    for told, pixels, _ in read_again(known):
        again = model.predict_proba_cropped(pil_to_tensor(Image.open(io.BytesIO(pixels)))[None])[0]
        assert torch.allclose(again, torch.tensor(told), atol=1e-6)


@pytest.mark.parametrize("crop", ["centre", "fit"])
def test_an_original_read_by_pillow_becomes_the_same_square(crop):
    model = tiny_model(crop=crop)
    known, wanted = make_golden_samples(model), model.preprocess
    for square, (_, _, original) in zip(known.pixels, read_again(known), strict=True):
        pixels = read_pixels(Image.open(io.BytesIO(original)), wanted.resize, wanted.interpolation)
        assert torch.equal(wanted.crop_to_square(pixels).movedim(0, -1), square)


def test_the_same_model_has_the_same_ones(model, known):
    again = make_golden_samples(model)
    assert torch.equal(again.pixels, known.pixels) and again.original_files == known.original_files
    assert again.to_files() == known.to_files()


def test_the_five_are_those_that_it_is_surest_of(model, known):
    wanted = model.preprocess
    drawn = [Image.open(io.BytesIO(jpeg(draw_synthetic_image(seed)))) for seed in range(NUM_SYNTHETIC_CANDIDATES)]
    grey = [
        Image.fromarray(to_12_bit_gray(draw_synthetic_image(seed)))
        for seed in range(NUM_SYNTHETIC_CANDIDATES, NUM_SYNTHETIC_CANDIDATES + NUM_16_BIT_CANDIDATES)
    ]
    told = []
    for pictures in (drawn, grey):
        squares = [wanted.crop_to_square(read_pixels(picture, wanted.resize)) for picture in pictures]
        told.append(model.predict_proba_cropped(torch.stack(squares)))
    margins = [(rows.topk(2).values @ torch.tensor([1.0, -1.0])).max().item() for rows in told]
    best, second = known.probabilities.topk(2).values.T
    assert [max((best - second)[:-1].tolist()), (best - second)[-1].item()] == margins
    assert set(told[0].argmax(1).tolist()) == set(known.probabilities[:-1].argmax(1).tolist())


def jpeg(picture):
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=92)
    return stream.getvalue()


def test_as_many_different_answers_as_there_are_are_among_them(drawn):
    model = tiny_model(drawn.classes)
    headswap.fit(model, drawn, headswap.Plan((headswap.Phase(8, 0, 1e-2),), views=1))
    every = model.predict_proba(drawn.paths).argmax(1).tolist()
    chosen = make_golden_samples(model, drawn).probabilities.argmax(1).tolist()
    assert len(set(every)) == 3 and set(chosen) == set(every)


def test_of_several_labels_the_clearest_are_chosen():
    model = tiny_model(multi_label=True)
    known = make_golden_samples(model)
    assert known.probabilities.shape == (5, 3)
    assert check_parity("It", answers(model), known).max_difference == 0


def test_classes_in_any_script_are_told():
    known = make_golden_samples(tiny_model(("猫", "a\nb", "😀")))
    assert json.loads(known.to_files()["golden.json"])["classes"] == ["猫", "a\nb", "😀"]


# Whose they are


def test_a_drawing_is_the_same_for_the_same_seed_and_another_for_another():
    assert draw_synthetic_image(3).tobytes() == draw_synthetic_image(3).tobytes() != draw_synthetic_image(4).tobytes()


def test_nobodys_images_are_among_them_unless_they_are_given(model, known, drawn):
    drawings = {jpeg(draw_synthetic_image(seed)) for seed in range(24)}
    assert set(known.original_files[:-1]) <= drawings
    own = make_golden_samples(model, drawn)
    assert not set(own.original_files) & drawings and own.original_files[-1] == known.original_files[-1]
    for original in own.original_files[:-1]:
        picture = np.asarray(Image.open(io.BytesIO(original)).resize((56, 44)), float)
        nearest = min(np.abs(picture - np.asarray(shape(name, i), float)).mean() for name in SHAPES for i in range(9))
        assert nearest < 8  # it is one of theirs


def test_as_many_as_are_given_and_the_deep_one(model, drawn):
    for count in (1, 3, 5, 6):
        some = drawn.subset(range(count))
        known = make_golden_samples(model, some)
        assert len(known.pixels) == len(known.original_files) == min(count, 4) + 1
        assert check_parity("It", answers(model), known).num_images == min(count, 4) + 1


def test_an_original_is_a_picture_and_nothing_more(known):
    pictures = [Image.open(io.BytesIO(original)) for original in known.original_files]
    assert [picture.format for picture in pictures] == ["JPEG"] * 4 + ["PNG"]
    for picture in pictures:
        assert not picture.getexif()
        assert not set(picture.info) & {"exif", "comment", "icc_profile", "photoshop", "xmp"}


def test_the_last_one_is_12_bits_in_a_file_of_16_which_most_decoders_show_black(known):
    deep = np.asarray(Image.open(io.BytesIO(known.original_files[-1])))
    assert deep.dtype == np.uint16 and 2048 < deep.max() <= 4095
    assert known.pixels[-1].float().mean() > 40 > (deep >> 8).mean()
    assert torch.equal(known.pixels[-1, ..., 0], known.pixels[-1, ..., 2])  # grey


# What they prove


def test_the_model_itself_agrees_to_the_last_bit(model, known):
    proof = check_parity("The model", answers(model), known)
    assert (proof.artifact_name, proof.max_difference, proof.num_images) == ("The model", 0.0, 5)
    assert proof.sentence == "The model was loaded again: no difference on 5 images, to the last bit."


def test_a_small_difference_is_told(model, known):
    proof = check_parity("The copy", lambda squares: answers(model)(squares) + 5e-5, known)
    assert proof.max_difference == pytest.approx(5e-5, rel=0.01)
    assert proof.sentence == "The copy was loaded again: largest difference 5e-05 on 5 images."


def last_one_off(told):
    told = told.clone()
    told[-1, 0] += 2 * PARITY_TOLERANCE
    return told


WRONG = {
    "a little": lambda told: told + 2 * PARITY_TOLERANCE,
    "in one number": last_one_off,
    "far": lambda told: 1 - told,
    "no numbers": lambda told: told * torch.nan,
    "infinite": lambda told: told + torch.inf,
    "in another order": lambda told: told.roll(1, 1),
    "one too few": lambda told: told[1:],
    "one too many": lambda told: torch.cat([told, told[:1]]),
    "other classes": lambda told: told[:, :-1],
    "one for all": lambda told: told[0],
    "of the first alone": lambda told: told[:1].expand(len(told), -1),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_answers_otherwise_does_not_agree(how, model, known):
    wrong = WRONG[how]
    with pytest.raises(ParityError, match=r"^The copy (disagrees with the model by|does not give one answer)"):
        check_parity("The copy", lambda squares: wrong(answers(model)(squares)), known)


def test_what_answers_one_image_otherwise_than_many_does_not_agree(model, known):
    def moody(squares):
        return answers(model)(squares) + (0.01 if len(squares) == 1 else 0)

    with pytest.raises(ParityError, match=r"by 0\.01 on 5 images"):
        check_parity("The copy", moody, known)


def test_known_answers_that_are_no_numbers_prove_nothing(model, known):
    unknown = dataclasses.replace(known, probabilities=known.probabilities * torch.nan)
    with pytest.raises(ParityError, match="by inf"):
        check_parity("The copy", lambda squares: unknown.probabilities[: len(squares)], unknown)
