"""Folders and zips become labelled images; what is left out is said."""

import errno
import os
import stat

import pytest
import torch
from pictures import FLOWERS, check_refused, drawn, folder, load_files, own, reasons, zipped

import headswap
from headswap.common.errors import InputError
from headswap.common.text import natural_sort_key
from headswap.data import archives
from headswap.data.load_report import LoadReport
from headswap.data.loading import load_files_with_progress, load_images

pytestmark = pytest.mark.usefixtures("private_folders")


# Reading


def test_a_folder_per_class_is_read(flowers):
    images = load_images(flowers)
    assert images.classes == ("roses", "tulips")
    assert images.labels == (0, 0, 1, 1)
    assert images.names == FLOWERS
    assert images.groups == (0, 1, 2, 3)
    assert images.counts == {"roses": 2, "tulips": 2}
    assert len(images) == 4
    assert images.report == LoadReport(num_read=4)
    first, label = next(iter(images))
    assert first.dtype == torch.uint8
    assert tuple(first.shape) == (3, 256, 307)
    assert label == 0


def test_images_say_in_a_line_what_they_are(flowers):
    assert repr(load_images(flowers)) == "<LabelledImages: 4 images of 2 classes: roses and tulips>"


def test_arrays_are_no_source(flowers):
    with pytest.raises(InputError, match="takes the path of a folder, an archive or a table of labels, not tuple"):
        load_images(([1, 2], [0, 1]))


def test_a_folder_a_zip_and_an_upload_give_the_same(tmp_path, flowers):
    archive = zipped(tmp_path / "flowers.zip", *FLOWERS)
    uploads = [(name, folder(tmp_path / str(i), "x", content=own(name)) / "x") for i, name in enumerate(FLOWERS)]
    read = [load_images(flowers), load_images(str(archive)), load_files(reversed(uploads))]
    for images in read:
        assert (images.classes, images.labels, images.names) == (read[0].classes, read[0].labels, FLOWERS)
        assert all(torch.equal(ours[0], theirs[0]) for ours, theirs in zip(images, read[0], strict=True))


def test_each_image_has_the_pixels_of_its_own_file(tmp_path):
    colours = {"blue": (0, 0, 255), "lime": (0, 255, 0), "red": (255, 0, 0)}
    for colour in colours:
        for name in ("a", "b"):
            folder(tmp_path, f"{colour}/{name}.png", content=drawn(colour))
    images = load_images(tmp_path)
    assert [tuple(image[:, 9, 9].tolist()) for image, _ in images] == [
        colours[images.classes[label]] for label in images.labels
    ]


def test_classes_and_names_are_sorted_as_people_sort(tmp_path):
    root = folder(tmp_path / "x", "Type 10/a.png", "type 2/a.png", "type 2/10.png", "type 2/9.png", "alpha/a.png")
    images = load_images(root)
    assert images.classes == ("alpha", "type 2", "Type 10")
    assert images.names[1:4] == ("type 2/9.png", "type 2/10.png", "type 2/a.png")
    assert sorted(["a" + "9" * 9999, "a" + "1" * 9999], key=natural_sort_key)[0] == "a" + "1" * 9999


def test_the_order_of_the_file_system_does_not_matter(flowers, monkeypatch):
    expected = load_images(flowers).names
    walk = os.walk
    monkeypatch.setattr("os.walk", lambda *a, **k: ((f, d, list(reversed(n))) for f, d, n in walk(*a, **k)))
    assert load_images(flowers).names == expected


def test_words_that_mean_missing_elsewhere_are_classes(tmp_path):
    root = folder(tmp_path, *(f"{name}/a.png" for name in ("NA", "None", "nan", "null", "0")))
    assert load_images(root).classes == ("0", "NA", "nan", "None", "null")


def test_wrapper_folders_are_peeled_and_deeper_ones_belong_to_their_class(tmp_path):
    names = ("my data/flowers/roses/a.png", "my data/flowers/tulips/red/b.png", "my data/flowers/tulips/c.png")
    images = load_images(folder(tmp_path, *names))
    assert images.classes == ("roses", "tulips")
    assert images.labels == (0, 1, 1)
    assert set(images.names) == set(names)


def test_a_class_level_is_never_peeled(tmp_path):
    check_refused(folder(tmp_path / "one", "roses/a.png", "roses/b.png"), "only one class, 'roses'", "add a sub-folder")
    check_refused(folder(tmp_path / "deep", "roses/a.png", "roses/old/b.png"), "only one class, 'roses'")


def test_loose_pictures_beside_a_wrapper_do_not_hide_the_classes(tmp_path):
    images = load_images(folder(tmp_path, "cover.png", "all/cover.png", "all/roses/a.png", "all/tulips/a.png"))
    assert images.classes == ("roses", "tulips")
    assert reasons(images) == dict.fromkeys(("cover.png", "all/cover.png"), "lies outside the class folders")


def test_what_is_no_picture_is_skipped_with_a_reason(flowers):
    folder(flowers, "readme.txt", "roses/more.zip", "roses/text.jpg", content=b"words")
    folder(flowers, "roses/empty.png", content=b"")
    folder(flowers, "roses/phone.heic", content=b"\0\0\0\x18ftypheic")
    folder(flowers, "tulips/short.jpg", content=drawn(size=(300, 300), ending="jpg")[:-200])
    folder(flowers, "cover.png")
    images = load_images(flowers)
    assert images.report.num_read == len(images) == 4
    expected = {
        "readme.txt": "is not a picture",
        "roses/more.zip": "unpack it first",
        "roses/text.jpg": "is not a JPEG",
        "roses/empty.png": "is empty",
        "roses/phone.heic": "damaged or cut short",
        "tulips/short.jpg": "damaged or cut short",
        "cover.png": "lies outside the class folders",
    }
    assert set(reasons(images)) == set(expected)
    for name, reason in expected.items():
        assert reason in reasons(images)[name]
        assert f"{name}: {reasons(images)[name]}." in str(images.report)
    assert "4 images read, 7 skipped." in str(images.report)


def test_a_class_that_loses_all_its_images_is_no_class_and_that_is_said(flowers):
    folder(flowers, "rust/a.png", content=b"words")
    images = load_images(flowers)
    assert images.classes == ("roses", "tulips")
    assert images.report.notes == ("'rust' has no image that can be used, so it is not a class.",)
    assert "'rust'" in str(images.report)


def test_an_upload_that_is_gone_is_skipped(flowers):
    files = [(name, flowers / name) for name in FLOWERS]
    (flowers / "roses/a.png").unlink()
    images = load_files(files)
    assert images.names == FLOWERS[1:]
    assert "cannot be opened" in reasons(images)["roses/a.png"]


def test_files_of_the_same_name_are_kept_apart(flowers):
    files = [(name, flowers / name) for name in FLOWERS]
    images = load_files([*files, (FLOWERS[0], flowers / FLOWERS[1]), ("roses/A.png", flowers / FLOWERS[2])])
    assert images.names[:4] == ("roses/A.png", "roses/a.png", "roses/a.png (2)", "roses/b.png")
    assert len({images.paths[i].name for i in range(6)}) == 6
    assert torch.equal(images.pixels(2), images.pixels(3))


def test_frames_of_a_burst_are_one_group_and_those_of_a_later_loading_another(flowers):
    files = [(name, flowers / name, burst) for name, burst in zip(FLOWERS, ("a", "a", "", ""), strict=True)]
    *_, images = load_files_with_progress(files)
    assert images.groups == (0, 0, 1, 2)
    for name in FLOWERS:
        (flowers / name).write_bytes(own(f"later {name}"))
    *_, images = load_files_with_progress([(f"later {name}", *rest) for name, *rest in files], existing=images)
    assert sorted(len(group) for group in images.group_indices) == [1, 1, 1, 1, 2, 2]


# Halves on disk

HALVES = ("train/roses/a.png", "train/tulips/b.png", "val/roses/c.png", "val/tulips/d.png")


@pytest.mark.parametrize("train", ["train", "Training"])
@pytest.mark.parametrize("val", ["val", "valid", "validation", "VAL"])
def test_a_validation_folder_is_the_validation_half_whatever_the_seed(tmp_path, train, val):
    names = [name.replace("train/", f"{train}/").replace("val/", f"{val}/") for name in HALVES]
    images = load_images(folder(tmp_path, *(f"flowers/{name}" for name in names)))
    assert images.classes == ("roses", "tulips")
    for seed in range(3):
        training, validation = images.split(validation=0.4, seed=seed)
        assert set(training.names) == {f"flowers/{name}" for name in names[:2]}
        assert set(validation.names) == {f"flowers/{name}" for name in names[2:]}
    folder(tmp_path, "flowers/x.png", f"flowers/{train}/roses/e.png", f"flowers/{train}/tulips/f.png")
    training, _ = load_images(tmp_path).split()
    assert [len(half) for half in training.split()] == [2, 2]


def test_a_test_folder_never_chooses_anything(tmp_path):
    images = load_images(folder(tmp_path, *HALVES, "test/roses/e.png", "test/violets/f.png"))
    assert images.report.notes == ("test/: 2 images set aside; a test folder never chooses anything.",)
    assert not any(name.startswith("test") for name in images.names)
    assert images.classes == ("roses", "tulips")


def test_without_a_validation_folder_the_training_folder_is_split(tmp_path):
    names = ("train/roses/a.png", "train/roses/b.png", "train/tulips/a.png", "train/tulips/b.png")
    images = load_images(folder(tmp_path, *names, "test/roses/a.png"))
    assert images.names == names
    assert [half.counts for half in images.split()] == [{"roses": 1, "tulips": 1}] * 2


def test_a_class_that_only_the_validation_folder_has_cannot_be_learned(tmp_path):
    images = load_images(folder(tmp_path, *HALVES, "val/violets/a.png", "train/daisies/a.png", "docs/x/a.png"))
    assert images.classes == ("daisies", "roses", "tulips")
    assert "without an image to learn from" in reasons(images)["val/violets/a.png"]
    assert "outside the folders for training" in reasons(images)["docs/x/a.png"]
    assert "The validation folder has no image of 'daisies'." in images.report.notes


def test_train_and_test_folders_without_classes_are_no_classes_themselves(tmp_path):
    check_refused(
        folder(tmp_path, "train/a.png", "train/b.png", "test/c.png"), "no image to learn from", "2 images lying loose"
    )


def test_a_training_folder_alone_is_a_wrapper(tmp_path):
    images = load_images(folder(tmp_path, "train/roses/a.png", "train/tulips/a.png"))
    assert images.classes == ("roses", "tulips")


OTHER_NAMES = (
    ("Training", "Testing"),
    ("training_set", "test_set"),
    ("seg_train", "seg_test"),
    ("training", "evaluation"),
    ("TRAIN", "Holdout"),
    ("train", "hold-out"),
    ("Train", "Dev"),
    ("trainset", "testset"),
    ("train2017", "val2017"),
    ("TrainingSet", "ValidationSet"),
    ("images_train", "images_pred"),
    ("pets-training", "pets-test"),
)


@pytest.mark.parametrize("tops", OTHER_NAMES, ids=" ".join)
def test_halves_are_known_by_many_names_and_are_no_classes(tmp_path, tops):
    first, second = tops
    names = [f"{top}/{kind}/{i}.png" for top in tops for kind in ("cat", "dog") for i in range(3)]
    images = load_images(folder(tmp_path, *names))
    assert images.classes == ("cat", "dog")
    if any(images.held_out):
        assert {name for name, held in zip(images.names, images.held_out, strict=True) if held} == set(names[6:])
        assert images.report.interpretation == (f"{first}/ to learn from, {second}/ to check on.",)
    else:
        assert set(images.names) == set(names[:6])
        assert images.report.notes == (f"{second}/: 6 images set aside; a test folder never chooses anything.",)
        assert images.report.interpretation == (f"{first}/ to learn from, and a part drawn by lot to check on.",)


@pytest.mark.parametrize("tops", [("part 1", "part 2"), ("2019", "2020", "2021"), ("hall", "val")])
def test_folders_that_bear_the_same_sub_folders_are_parts_of_one_set_and_that_is_said(tmp_path, tops):
    names = [f"{top}/{kind}/{i}.png" for top in tops for kind in ("cat", "dog") for i in range(3)]
    images = load_images(folder(tmp_path, *names))
    assert images.classes == ("cat", "dog") and len(images) == len(names)
    assert sum(images.held_out) == (6 if "val" in tops else 0)
    assert "have the same sub-folders (cat and dog), so these are the classes" in images.report.notes[0]


def test_one_sub_folder_that_all_classes_have_is_no_class(tmp_path):
    images = load_images(folder(tmp_path, *(f"{kind}/images/{i}.png" for kind in ("cat", "dog") for i in range(2))))
    assert images.classes == ("cat", "dog")


def test_halves_may_lie_inside_the_classes(tmp_path):
    names = [f"{kind}/{half}/{i}.png" for kind in ("cat", "dog") for half in ("train", "val", "test") for i in range(2)]
    images = load_images(folder(tmp_path, *names))
    assert images.classes == ("cat", "dog")
    assert {name.split("/")[1] for name, held in zip(images.names, images.held_out, strict=True) if held} == {"val"}
    assert len(images) == 8


def test_a_half_may_lie_in_a_folder_of_its_own_name(tmp_path):
    names = [
        f"{half}/{half}/{kind}/{half}{i}.png" for half in ("seg_train", "seg_test") for kind in "ab" for i in (1, 2)
    ]
    images = load_images(folder(tmp_path, *names, "seg_pred/seg_pred/1.png"))
    assert images.classes == ("a", "b") and len(images) == 4
    judging = load_images(tmp_path, for_evaluation=True)
    assert set(judging.names) == set(names[4:])
    assert reasons(judging) == {"seg_pred/seg_pred/1.png": "lies outside the class folders"}


def test_a_vehicle_called_train_is_a_class(tmp_path):
    images = load_images(folder(tmp_path, *(f"{kind}/{i}.png" for kind in ("train", "bus", "car") for i in range(2))))
    assert images.classes == ("bus", "car", "train")


def test_classes_that_the_other_half_writes_in_another_case_are_the_same_and_that_is_said(tmp_path):
    names = [f"train/{kind}/{i}.png" for kind in ("Guinea pig", "Dog") for i in range(3)]
    images = load_images(folder(tmp_path, *names, "val/guinea_pig/7.png", "val/dog/7.png", "val/DOG/8.png"))
    assert images.classes == ("Dog", "Guinea pig") and sum(images.held_out) == 3
    assert "val/guinea_pig is taken for Guinea pig, as the training half writes it." in images.report.notes
    folder(tmp_path, "train/dog/9.png")
    images = load_images(tmp_path)
    assert (
        "Dog and dog are spelled alike, and are classes of their own; rename one to join them." in images.report.notes
    )


def test_a_validation_folder_that_cannot_be_used_is_said_plainly(tmp_path):
    names = [f"train/{kind}/{i}.png" for kind in ("cat", "dog") for i in range(3)]
    images = load_images(folder(tmp_path, *names, "val/katze/1.png", "val/hund/1.png"))
    assert not any(images.held_out) and images.report.interpretation == ()
    [note] = images.report.notes
    assert "validation folder is not used, because no class of it (hund, katze) is learned" in note


@pytest.mark.parametrize(
    ("halves", "judging"),
    [(("train", "val", "Testing"), "Testing"), (("train", "val"), "val"), (("a", "b"), None), (("train",), None)],
)
def test_what_judges_is_the_test_folder_or_the_validation_folder_and_is_said(tmp_path, halves, judging):
    names = [f"{half}/{kind}/{half}{i}.png" for half in halves for kind in ("cat", "dog") for i in range(2)]
    images = load_images(folder(tmp_path, *names), for_evaluation=True)
    expected = [name for name in names if not judging or name.startswith(judging)]
    assert set(images.names) == set(expected) and not any(images.held_out)
    said = images.report.interpretation
    assert said[0].startswith(f"Judged by {judging}/: 4 images.") if judging else said == ()


def test_pictures_that_lie_in_the_folder_of_their_class_itself_judge_as_that_class(tmp_path):
    images = load_images(folder(tmp_path / "cat", "1.png", "2.png"), for_evaluation=True)
    assert images.counts == {"cat": 2}
    assert images.report.interpretation == ("The images lie in cat/ itself, so cat is their class.",)
    check_refused(folder(tmp_path / "dog", "1.png", "2.png"), "2 images lying loose")


@pytest.mark.parametrize("address", ["https://example.org/pets.zip", "www.example.org/pets", "ftp://example.org/a.csv"])
def test_a_web_address_says_that_it_is_no_file_here(address):
    check_refused(address, f"{address} is a web address, and nothing is fetched here; download it")
    with pytest.raises(InputError, match="is a web address, and nothing is fetched here"):
        headswap.load(address)


def test_one_class_is_enough_to_judge_by_and_a_mute_test_folder_is_not(tmp_path):
    assert load_images(folder(tmp_path / "one", "cat/1.png"), for_evaluation=True).classes == ("cat",)
    mute = folder(tmp_path / "mute", "train/cat/1.png", "train/dog/1.png", "test/1.png")
    check_refused(mute, "test/ has no sub-folder for each class", for_evaluation=True)


# What cannot be read, and what is kept


def test_a_source_without_images_says_what_was_found_instead(tmp_path):
    (tmp_path / "empty").mkdir()
    check_refused(tmp_path / "empty", "empty holds no image", "one sub-folder per class", "found nothing")
    loose = folder(tmp_path / "loose", *(f"{i}.png" for i in range(12)))
    check_refused(loose, "one sub-folder per class", "12 images lying loose")
    check_refused(folder(tmp_path / "text", "a/x.txt", "b/x.txt", content=b"x"), "2 unusable", "a/x.txt")
    with pytest.raises(InputError, match="The upload holds no image"):
        load_files([])


def test_a_source_is_called_by_the_name_it_is_given(tmp_path):
    upload = zipped(tmp_path / "5f3a", "roses/a.png")
    check_refused(upload, "5f3a holds only one class")
    check_refused(upload, "my flowers.zip holds only one class", name="my flowers.zip")
    check_refused(upload, r"flow\x1b[31mers.zip holds", name="flow\x1b[31mers.zip")
    upload.write_bytes(b"PK")
    check_refused(upload, "flowers.zip is not a zip or tar.gz, or is damaged", name="flowers.zip")
    check_refused(tmp_path / "nowhere", "flowers does not exist", name="flowers")


def test_one_class_is_too_few_and_the_lost_one_is_named(flowers):
    for name in ("a", "b"):
        (flowers / f"tulips/{name}.png").write_bytes(b"words")
    check_refused(flowers, "only one class, 'roses'", "'tulips' has no image that can be used")


def test_too_many_files_are_refused(tmp_path, flowers, monkeypatch):
    monkeypatch.setenv("HEADSWAP_MAX_IMAGES", "3")
    check_refused(flowers, "more than 3 files", "take fewer")
    check_refused(zipped(tmp_path / "a.zip", *FLOWERS), "more than 3 files")


def test_a_full_disk_is_an_error_for_a_person(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives, "copy_stream", full)
    check_refused(zipped(tmp_path / "a.zip", *FLOWERS), "a.zip does not fit on the disk", "make room")


def test_private_files_have_numbers_for_names_and_belong_to_their_owner(tmp_path):
    images = load_images(zipped(tmp_path / "a.zip", *FLOWERS))
    assert [path.name for path in images.paths] == ["00000.png", "00001.png", "00002.png", "00003.png"]
    assert stat.S_IMODE(images.paths[0].parent.stat().st_mode) == 0o700


def test_a_refused_source_leaves_no_files_behind(tmp_path, private_folders):
    check_refused(folder(tmp_path, "roses/a.png"), "one class")
    assert list(private_folders.iterdir()) == []
