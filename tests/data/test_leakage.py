"""What was held back from a model stays held back, however it goes on; figures that could flatter say so."""

import base64
import json
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from bundles import in_new_process, redescribed, refusal, unpacked
from drawings import HEAD_ONLY, NARROW, small_model
from PIL import Image

import headswap
from headswap import InputError, Phase, Plan
from headswap.data import leakage
from headswap.data.leakage import HASH_BYTES, MAX_HASHES, NO_SEEN_IMAGES
from headswap.export.model_file import DESCRIPTION_ENTRY

CLASSES = ("cat", "dog")
ONE = Plan((Phase(1, 0, 1e-2),), views=1)
DEEP = Plan((Phase(1, 1, 1e-2, 1e-4),), views=1)


def draw(root, names=CLASSES, numbers=range(10)):
    """A folder of these classes with such pictures in each."""
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in numbers:
            picture(f"{name}{i}".encode()).save(root / name / f"{i}.png")
    return root


def picture(word):
    """A soft pattern that no other word has."""
    pattern = np.random.default_rng(list(word)).integers(0, 256, (8, 8, 3)).astype("uint8")
    return Image.fromarray(pattern).resize((64, 64), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    return draw(tmp_path / "one")


@pytest.fixture
def taught(folder):
    """A model with the images that it was taught by."""
    images = headswap.load_images(folder)
    model = small_model(images.classes, backbone=NARROW)
    headswap.fit(model, images, ONE)
    return model, images


def halves(model, images, plan=ONE, **how):
    """The names of what is learned from and of what judges now, and the last event."""
    kept = headswap.fit(model, images, plan, **how)
    learned, judged = model.seen.split(images, plan.validation_fraction, plan.seed)
    assert kept.total == len(judged)
    return set(learned.names), set(judged.names), kept


def sides(images, seen=NO_SEEN_IMAGES):
    """The names of both halves."""
    return tuple(set(half.names) for half in seen.split(images))


# The split


def test_a_model_that_knows_nothing_splits_as_its_images_do(taught):
    _, images = taught
    fresh = small_model(images.classes, backbone=NARROW)
    assert not fresh.seen and sides(images, fresh.seen) == tuple(set(half.names) for half in images.split())
    assert headswap.fit(fresh, images, ONE).leakage == ""


def test_what_was_held_back_stays_so_with_more_images_and_only_new_ones_are_split(taught, folder):
    model, images = taught
    learned, judged = (set(half.names) for half in images.split())
    now = headswap.load_images(draw(folder, numbers=range(10, 20)))
    assert learned & set(now.split()[1].names), "the plain split would not have mixed them, so this shows nothing"
    learns, judges, kept = halves(model, now)
    assert learned < learns and judged < judges
    new = judges - judged
    assert len(new) == 4 and {name.split("/")[-2] for name in new} == set(CLASSES)
    assert "4 of them were held back before as well; none of them was ever learned from." in kept.sentence


@pytest.mark.parametrize("seed", range(4))
def test_another_seed_and_another_share_move_nothing_that_is_known(seed, taught):
    model, images = taught
    before = sides(images)
    again = Plan((Phase(1, 0, 1e-2),), views=1, seed=seed, validation_fraction=0.4)
    assert halves(model, images, again)[:2] == before


def test_names_folders_and_formats_without_loss_do_not_matter(taught, tmp_path):
    model, images = taught
    learned, judged = images.split()
    for kind, half in (("learned", learned), ("judged", judged)):
        for i, path in enumerate(half.paths):
            place = tmp_path / "again" / "pets" / half.label_names[i][0] / "deeper" / f"{kind}-{i}.bmp"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).save(place)
    learns, judges = sides(headswap.load_images(tmp_path / "again"), model.seen)
    assert (len(learns), len(judges)) == (16, 4)
    assert all("learned-" in name for name in learns) and all("judged-" in name for name in judges)


def test_a_file_that_another_decoder_reads_otherwise_is_known_by_its_bytes(taught):
    model, images = taught
    other = replace(images, stats=tuple(replace(t, pixel_digest=bytes(16)) for t in images.stats))
    assert sides(other, model.seen) == sides(images, model.seen)


def test_a_new_copy_goes_to_the_side_of_the_image_that_is_known(taught, folder):
    model, images = taught
    before = sides(images)
    for side, kind in zip(before, ("learned", "judged"), strict=True):
        for name in side:
            place = folder / "/".join(name.split("/")[-2:])
            Image.open(place).save(place.with_name(f"{kind}-{place.stem}.jpg"), quality=60)
    now = headswap.load_images(folder)
    assert len(now) == 40 and len(set(now.groups)) == 20
    learns, judges, kept = halves(model, now)
    assert sum("learned-" in name for name in learns) == 16 and not any("judged-" in name for name in learns)
    assert sum("judged-" in name for name in judges) == 4 and not any("learned-" in name for name in judges)
    assert "none of them was ever learned from" in kept.sentence


def test_known_images_keep_their_sides_where_a_new_one_is_a_copy_of_both(taught, folder):
    model, images = taught
    before = sides(images)
    draw(folder, numbers=[77])
    now = headswap.load_images(folder)
    new = [i for i, name in enumerate(now.names) if "77" in name]
    grouped = replace(now, groups=tuple(0 if now.labels[i] == 0 else g + 1 for i, g in enumerate(now.groups)))
    learns, judges = sides(grouped, model.seen)
    assert before[0] <= learns and before[1] <= judges
    assert now.names[new[0]] in learns
    assert "2 images that judge may be known by their copies" in headswap.fit(model, grouped, ONE).sentence


def test_one_new_image_of_a_class_that_is_judged_already_is_learned_from(taught, folder):
    model, _ = taught
    learns, judges = sides(headswap.load_images(draw(folder, numbers=[50])), model.seen)
    assert sum("50" in name for name in learns) == 2 and not any("50" in name for name in judges)


def test_a_new_class_has_both_sides_of_its_own(taught, folder):
    model, images = taught
    before = sides(images)
    draw(folder, ["emu"], range(5))
    now = headswap.load_images(folder)
    learns, judges, kept = halves(model.add_class("emu"), now)
    assert before[0] < learns and before[1] < judges
    assert sum("emu" in name for name in judges) == 1 and sum("emu" in name for name in learns) == 4
    assert kept.sentence.count("4 of them were held back before")


def test_a_new_class_of_one_image_is_refused_as_ever(taught, folder):
    model, _ = taught
    draw(folder, ["emu"], [0])
    with pytest.raises(InputError, match="The class 'emu' has one image"):
        headswap.train(model.add_class("emu"), headswap.load_images(folder), ONE)


def test_training_in_turn_learns_from_nothing_that_judged_and_is_judged_by_nothing_it_learned(taught, folder, tmp_path):
    model, images = taught
    learned, judged = sides(images)
    for turn in range(1, 4):
        headswap.save(model, tmp_path / "turn.headswap")
        model = headswap.load(tmp_path / "turn.headswap")
        now = headswap.load_images(draw(folder, numbers=range(10 * turn, 10 * turn + 5)))
        learns, judges, _ = halves(model, now, replace(ONE, seed=turn))
        assert learned <= learns and judged <= judges and len(learns) + len(judges) == len(now)
        learned, judged = learns, judges
    assert len(judged) == 4 + 3 * 2


def test_the_same_pictures_in_new_folders_alone_are_all_split_anew(taught, tmp_path):
    model, _ = taught
    now = headswap.load_images(draw(tmp_path / "two", numbers=range(100, 110)))
    learns, judges, kept = halves(model, now)
    assert (len(learns), len(judges), kept.leakage) == (16, 4, "")


def test_several_labels_keep_their_sides(tmp_path):
    draw(tmp_path / "tags")
    rows = [f"{n}/{i}.png,{n}{';dark' * (i % 3 == 0)}" for n in CLASSES for i in range(10)]
    (tmp_path / "tags" / "labels.csv").write_text("\n".join(["file,labels", *rows]))
    images = headswap.load_images(tmp_path / "tags")
    model = small_model(images.classes, backbone=NARROW, multi_label=True)
    headswap.fit(model, images.without(range(0, 20, 5)), ONE)
    before = sides(images.without(range(0, 20, 5)), model.seen)
    learns, judges, _ = halves(model, images)
    assert before[0] < learns and before[1] <= judges


def crowd(images, chance, count):
    """So many images, made up, in three classes and some groups, some of them perhaps in a validation folder."""
    traits = images.stats[0]
    labels = [chance.randrange(3) for _ in range(count)]
    folder = chance.random() < 0.3
    return replace(
        images.subset([0] * count),
        classes=("cat", "dog", "emu"),
        labels=tuple(labels),
        groups=tuple(20 * label + chance.randrange(12) for label in labels),
        names=tuple(map(str, range(count))),
        stats=tuple(
            replace(traits, pixel_digest=chance.randbytes(16), file_digest=chance.randbytes(16)) for _ in labels
        ),
        held_out=tuple(folder and chance.random() < 0.3 for _ in labels),
    )


def test_whatever_is_known_no_image_and_no_new_copy_changes_sides(taught):
    ways = {"split": 0, "refused": 0, "all known": 0}
    for seed in range(150):
        chance = random.Random(seed)
        images = crowd(taught[1], chance, chance.randint(5, 30))
        everyone, share = range(len(images)), chance.choice((0, 0.3, 0.6, 1))
        learned = {i for i in everyone if chance.random() < share}
        judged = {i for i in everyone if chance.random() < 0.2} - learned
        seen = NO_SEEN_IMAGES.with_training(images.subset(learned), images.subset(judged), False)
        try:
            halves = seen.split(images, chance.choice((0.1, 0.2, 0.5)), seed)
        except InputError:
            ways["refused"] += 1
            continue
        learns, judges = ({int(name) for name in half.names} for half in halves)
        assert learns | judges == set(everyone) and not learns & judges and learns and judges
        assert ("flatter" in seen.describe_leakage(*halves)) == bool(judges & learned)
        if judges & learned:
            ways["all known"] += 1
            assert not judged, "those that judged before would have done"
            continue
        ways["split"] += 1
        assert learned <= learns and judged <= judges
        for group in images.group_indices:
            if not any(images.held_out) and learns & set(group) and judges & set(group):
                assert learned & set(group) and judged & set(group), "they lay on both sides before"
    assert all(ways.values()), ways


# Where nothing unseen is left


def test_after_refit_everything_was_learned_from_and_figures_say_that_they_flatter(taught, folder):
    model, images = taught
    kept = headswap.fit(model, images, ONE)
    judged = set(sides(images, model.seen)[1])
    *_, again = headswap.refit(model, images, ONE, kept)
    assert len(model.seen.find_training_indices(images)) == len(images) and again.leakage == kept.leakage
    learns, judges, kept = halves(model, images)
    assert judges == judged, "those that judged before flatter least"
    assert "All of these 4 validation images were learned from, so the figures flatter." in kept.sentence
    now = headswap.load_images(draw(folder, numbers=range(10, 16)))
    learns, judges, kept = halves(model, now)
    assert not judges & set(images.names) and set(images.names) < learns
    assert "flatter" not in kept.sentence and "None of them was ever learned from." in kept.sentence


def test_a_refit_that_is_closed_before_its_end_has_learned_nothing(taught):
    model, images = taught
    kept, before = headswap.fit(model, images, ONE), model.seen
    with_some = headswap.refit(model, images, ONE, kept)
    next(with_some)
    with_some.close()
    assert model.seen == before


def test_a_class_without_an_unseen_image_is_named(taught, folder):
    model, images = taught
    kept = headswap.fit(model, images, ONE)
    for _ in headswap.refit(model, images, ONE, kept):
        pass
    _, judges, kept = halves(model, headswap.load_images(draw(folder, ["cat"], range(20, 25))))
    assert {name.split("/")[-2] for name in judges} == {"cat"}
    assert "No image of 'dog' is left that was not learned from, so the figures say nothing of that." in kept.sentence


def test_images_that_all_judged_before_are_not_learned_from(taught):
    model, images = taught
    _, judged = images.split()
    with pytest.raises(InputError, match=r"All images of 'cat' have judged this model before .* Add others of it\."):
        headswap.train(model, judged, ONE)


def test_the_network_from_before_a_training_knows_nothing_of_its_images(taught):
    _, images = taught
    model = small_model(images.classes, backbone=NARROW)
    kept = headswap.fit(model, images, ONE)
    seen = model.seen
    headswap.restore(model, kept.candidates["start"])
    assert model.seen == NO_SEEN_IMAGES
    headswap.restore(model, kept.candidates["reference"])
    assert model.seen == seen


# Validation that was chosen


def halved_folder(root, train, val):
    """A folder with ``train/`` and ``val/`` of pictures by their numbers."""
    draw(root / "train", numbers=train)
    draw(root / "val", numbers=val)
    return headswap.load_images(root)


def test_a_validation_folder_that_was_learned_from_does_not_judge_and_that_is_said(taught, tmp_path):
    model, images = taught
    learned, judged = sides(images)
    numbers = {
        side: {int(re.findall(r"(\d+)\.png", name)[0]) for name in names if name.startswith("cat/")}
        for side, names in (("learned", learned), ("judged", judged))
    }
    some = sorted(numbers["learned"])[:2]
    now = halved_folder(tmp_path / "halves", sorted(set(range(10)) - set(some)), [*some, 30, 31])
    _, judges, kept = halves(model, now)
    assert not any(re.search(rf"cat/({'|'.join(map(str, some))})\.png", name) for name in judges)
    assert sum(bool(re.search(r"/3[01]\.png", name)) for name in judges) == 4
    assert re.search(
        r"\d images? of the validation folder w\w+ learned from before, which cannot judge\.", kept.sentence
    )
    assert re.search(
        r"\d images? outside the validation folder w\w+ held back before and judge as before", kept.sentence
    )


def test_validation_images_that_are_given_are_used_and_those_that_were_learned_from_counted(taught):
    model, images = taught
    kept = headswap.fit(model, images.split()[0], ONE, validation=images)
    assert "16 of these 20 validation images were learned from, so the figures flatter." in kept.sentence
    fresh = small_model(images.classes, backbone=NARROW)
    kept = headswap.fit(fresh, images, ONE, validation=images.split()[1])
    assert "All of these 4 validation images were learned from" in kept.sentence


# Other ways to go on


def test_a_race_on_a_model_keeps_its_sides(taught, folder):
    model, images = taught
    before = sides(images)
    now = headswap.load_images(draw(folder, numbers=range(10, 20)))
    events = list(headswap.race(now, model, ["linear", "lda"], ONE))
    won = next(event.model for event in events if isinstance(event, headswap.Won))
    learns, judges = sides(now, won.seen)
    assert before[0] < learns and before[1] < judges
    assert "held back before" in events[-1].sentence


def test_cross_validation_on_stages_that_have_learned_says_that_it_flatters(taught):
    model, images = taught
    *_, judged = headswap.cross_validate(images, model, folds=2, plan=ONE)
    assert judged.learned_from == 0 and "flatter" not in judged.sentence, "new heads on stages that stood still"
    headswap.fit(model, images, DEEP)
    *_, judged = headswap.cross_validate(images, model, folds=2, plan=ONE)
    assert "stages below have learned from 16 of them, so the figures flatter." in judged.sentence


def test_what_was_stopped_remembers_what_it_learned_from(folder):
    images = headswap.load_images(folder)
    model = small_model(images.classes, backbone=NARROW)
    events = headswap.train(model, images, HEAD_ONLY)
    next(events)
    events.close()
    assert not model.seen
    events = headswap.train(model, images, HEAD_ONLY)
    while type(next(events)).__name__ != "Epoch":
        pass
    events.close()
    assert set(np.array(images.names)[model.seen.find_training_indices(images)]) == set(images.split()[0].names)


def test_the_ejected_script_holds_back_what_was_held_back(taught, folder):
    model, _ = taught
    now = headswap.load_images(draw(folder, numbers=range(10, 20)))
    _, judges, _ = halves(model, now)
    lesson = headswap.eject(model, now)
    assert all("/".join(name.split("/")[-2:]) in lesson for name in judges)


# Evaluation


def test_an_evaluation_counts_what_was_learned_from(taught, tmp_path):
    model, images = taught
    learned, judged = images.split()
    for some, count, words in (
        (images, 16, "16 of these 20 images were learned from, so the figures flatter."),
        (learned, 16, "All of these 16 images were learned from, so the figures flatter."),
        (images.subset([*range(3)]), None, "learned from"),
        (learned.subset([0]), 1, "This image was learned from, so the figures flatter."),
        (judged, 0, ""),
    ):
        told = headswap.evaluate(model, some)
        assert count is None or told.learned_from == count
        assert words in str(told).splitlines()[0] and ("flatter" in str(told)) == bool(words)
    other = headswap.load_images(draw(tmp_path / "two", numbers=range(100, 103)))
    assert headswap.evaluate(model, other).learned_from == 0


def test_of_an_untaught_model_nothing_is_said(taught):
    _, images = taught
    told = headswap.evaluate(small_model(images.classes, backbone=NARROW), images)
    assert told.learned_from == 0 and "learned from" not in str(told)


# The file


@pytest.fixture
def file(taught, tmp_path):
    headswap.save(taught[0], tmp_path / "pets.headswap")
    return tmp_path / "pets.headswap"


@pytest.mark.subprocess
def test_a_new_process_keeps_the_sides(taught, file, folder):
    code = """
import json, sys
from pathlib import Path
import headswap
from test_leakage import ONE, draw

model = headswap.load(sys.argv[1])
now = headswap.load_images(draw(Path(sys.argv[2]), numbers=range(10, 20)))
said = headswap.fit(model, now, ONE).sentence
print(json.dumps([said, *(list(half.names) for half in model.seen.split(now))]))
"""
    said, learns, judges = json.loads(in_new_process(code, file, folder))
    before = sides(taught[1])
    assert before[0] < set(learns) and before[1] < set(judges) and "ever learned from" in said


def test_twenty_thousand_images_add_less_than_a_megabyte_and_are_found_at_once(taught, tmp_path):
    model, images = taught
    chance = np.random.default_rng(0)
    many = [
        replace(images.stats[0], pixel_digest=chance.bytes(16), file_digest=chance.bytes(16)) for _ in range(20_000)
    ]
    shape = images.subset([0] * 20_000)
    crowd = replace(shape, stats=tuple(many))
    headswap.save(model, tmp_path / "few.headswap")
    model.seen = model.seen.with_training(crowd, crowd.subset(range(4_000)), False)
    headswap.save(model, tmp_path / "many.headswap")
    few, more = ((tmp_path / f"{name}.headswap").stat().st_size for name in ("few", "many"))
    assert more - few < 2**20
    again = headswap.load(tmp_path / "many.headswap")
    assert again.seen == model.seen and len(again.seen.find_training_indices(crowd)) == 20_000


def test_more_than_can_be_remembered_is_said_to_be_forgotten(taught, monkeypatch):
    model, images = taught
    monkeypatch.setattr(leakage, "MAX_HASHES", 10)
    seen = model.seen.with_training(images.subset(range(5)), None, False)
    assert seen.is_truncated and seen.find_training_indices(images)[:5] == list(range(5))
    assert "seen more images than it remembers" in seen.describe_leakage(*images.split())


WRONG = {
    "a number": 7,
    "no hashes": {"training_hashes": "AAAA", "validation_hashes": ""},
    "no text": {"training_hashes": ["AAAA"]},
    "no base64": {"training_hashes": "!!!" * 8},
    "too many": {"training_hashes": "A" * (4 * HASH_BYTES * MAX_HASHES)},
    "a million lists": {"training_hashes": [[]] * 200_000},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_memory_that_cannot_be_is_refused(case, file, tmp_path):
    redescribed(file, tmp_path / "other.headswap", lambda said: said.update(seen=WRONG[case]))
    assert "damaged" in refusal(tmp_path / "other.headswap") or case == "a million lists"


def test_a_memory_holds_no_name_and_no_picture(taught, file):
    told = json.loads(unpacked(file)[DESCRIPTION_ENTRY])["seen"]
    assert set(told) == {"training_hashes", "validation_hashes", "stages_trained", "is_truncated"}
    assert len(base64.b64decode(told["training_hashes"], validate=True)) == 16 * 2 * HASH_BYTES
