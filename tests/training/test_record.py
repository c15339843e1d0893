"""A model remembers how it was taught and what it came to, whatever ended its training; and its file remembers it."""

import dataclasses
import json

import pytest
import torch
from drawings import HEAD_ONLY, NARROW, THAWED, TWO, load_shapes, small_model
from listening import events, until
from pydantic import TypeAdapter, ValidationError

import headswap
from headswap import Phase, Plan
from headswap.training.checkpoints import restore
from headswap.training.events import Epoch, Kept, PhaseBegins, Reference
from headswap.training.race import Won
from headswap.training.record import RECORD_CHECKPOINTS, EpochRecord, PhaseRecord, Record, ValidationResult

AS_JSON = TypeAdapter(Record)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return load_shapes(tmp_path_factory.mktemp("few") / "shapes", each=5)


def learner(images, **options):
    return small_model(images.classes, backbone=NARROW, **options)


# What is remembered


def test_before_it_was_taught_it_has_no_past(few):
    assert learner(few).record is None


def test_it_remembers_the_plan_the_images_and_the_epochs(few):
    model = learner(few)
    told = list(headswap.train(model, few, TWO))
    record, kept = model.record, told[-1]
    learned, checked = few.split(TWO.validation_fraction, TWO.seed)
    assert record.plan == TWO
    assert dict(record.class_counts) == few.counts and list(record.class_counts) == list(model.classes)
    assert (record.num_training_images, record.result.total) == (len(learned), len(checked))
    assert [(e.training_loss, e.validation_score) for e in record.epochs] == [
        (e.training_loss, e.validation_score) for e in events(Epoch, told)
    ]
    assert [(s.first_epoch, s.learning_stages) for s in record.phases] == [
        (p.first_epoch, p.learning_stages) for p in events(PhaseBegins, told)
    ]
    assert (record.checkpoint, record.epoch, record.selected_on_validation) == ("best", kept.epoch, True)
    assert (record.result.correct, record.result.total, record.result.score) == (kept.correct, kept.total, kept.score)
    [reference] = events(Reference, told)
    assert record.reference == reference.validation_metrics.to_result
    assert 0 < record.seconds < 600


def test_its_confusion_is_that_of_its_answers(few):
    model = learner(few)
    headswap.fit(model, few, HEAD_ONLY)
    _, checked = few.split(HEAD_ONLY.validation_fraction, HEAD_ONLY.seed)
    wanted = model.preprocess
    pixels = [checked.pixels(i, wanted.resize, wanted.interpolation) for i in range(len(checked))]
    expected = torch.zeros(3, 3, dtype=torch.int64)
    for shown, called in zip(checked.labels, model.predict_proba(pixels).argmax(1).tolist(), strict=True):
        expected[shown, called] += 1
    assert model.record.result.confusion == tuple(map(tuple, expected.tolist()))


@pytest.mark.parametrize("wanted", ["last", "between"])
def test_it_remembers_what_was_kept(wanted, few):
    model = learner(few)
    plan = dataclasses.replace(THAWED, checkpoint=wanted, weight_interpolation=0.5)
    headswap.fit(model, few, plan)
    assert (model.record.checkpoint, model.record.epoch, model.record.selected_on_validation) == (wanted, 3, False)
    assert model.record.learning_stages == model.learning_stages == model.record.phases[-1].learning_stages
    assert len(model.record.learning_stages) == 2


def test_unfreezing_is_judged_in_it(few):
    model = learner(few)
    kept = headswap.fit(model, few, TWO)
    assert model.record.verdict == (kept.verdict.sentence if kept.verdict else "")
    assert kept.verdict is not None


# Whatever ended it


def test_a_training_that_is_left_in_the_middle_is_remembered_as_far_as_it_went(few):
    model = learner(few)
    told = headswap.train(model, few, Plan((Phase(9, 0, 1e-2),), views=1))
    until(Epoch, told, times=3)
    told.close()
    assert len(model.record.epochs) == 3
    assert (model.record.checkpoint, model.record.selected_on_validation) == ("best", True)
    best = model.record.epochs[model.record.epoch - 1]
    assert best.validation_score == model.record.result.score == max(e.validation_score for e in model.record.epochs)


def test_a_training_that_is_left_before_its_first_epoch_is_not_remembered(few):
    model = learner(few)
    told = headswap.train(model, few, HEAD_ONLY)
    until(PhaseBegins, told)
    told.close()
    assert model.record is None


def test_one_that_is_left_before_its_first_epoch_leaves_the_memory_of_another(few):
    model = learner(few)
    headswap.fit(model, few, HEAD_ONLY)
    before = model.record
    told = headswap.train(model, few, TWO)
    until(PhaseBegins, told)
    told.close()
    assert model.record == before


def test_the_last_training_counts(few):
    model = learner(few)
    headswap.fit(model, few, HEAD_ONLY)
    headswap.fit(model, few, THAWED)
    assert model.record.plan == THAWED and len(model.record.epochs) == 3


def test_another_kept_instead_is_remembered_and_the_way_back_too(few):
    model = learner(few)
    kept = headswap.fit(model, few, TWO)
    before = model.record
    for name in ("frozen", "reference"):
        offer = kept.candidates[name]
        restore(model, offer)
        assert (model.record.checkpoint, model.record.selected_on_validation) == (name, False)
        assert model.record.result == offer.validation_metrics.to_result
        assert model.record.learning_stages == ()
        assert (
            dataclasses.replace(model.record, checkpoint="best", result=before.result, selected_on_validation=True)
            == before
        )
    restore(model, kept.candidates["start"])
    assert model.record is None


def test_a_refit_remembers_all_images_and_the_honest_figure(few):
    model = learner(few)
    kept = headswap.fit(model, few, TWO)
    honest = model.record
    told = list(headswap.refit(model, few, TWO, kept))
    record = model.record
    assert record.refitted and record.num_training_images == len(few)
    assert dict(record.class_counts) == few.counts
    assert (record.result.correct, record.result.total) == (honest.result.correct, honest.result.total)
    assert record.reference == honest.reference
    assert {(e.validation_loss, e.validation_score) for e in record.epochs} == {(None, None)}
    assert record.learning_stages == events(PhaseBegins, told)[-1].learning_stages


def test_a_refit_that_is_left_remembers_the_honest_run(few):
    model = learner(few)
    kept = headswap.fit(model, few, TWO)
    before = model.record
    told = headswap.refit(model, few, TWO, kept)
    until(Epoch, told)
    told.close()
    assert model.record == before


def test_the_winner_of_a_race_remembers_it(few):
    told = list(headswap.race(few, learner(few), {"linear": {}, "mlp": {"hidden_dims": (8,)}}, TWO))
    [won] = events(Won, told)
    assert isinstance(told[-1], Kept)
    record = won.model.record
    assert len(record.epochs) == 6 and record.plan == TWO
    assert (record.result.correct, record.result.total) == (told[-1].correct, told[-1].total)


def test_another_head_on_the_same_backbone_has_no_past(few):
    model = learner(few)
    headswap.fit(model, few, HEAD_ONLY)
    assert headswap.adapt(model, few.classes, "mlp").record is None


def test_where_nothing_is_held_back_there_are_no_figures(few):
    model = learner(few)
    kept = headswap.fit(model, few, HEAD_ONLY)
    list(headswap.refit(model, few, HEAD_ONLY, kept))
    assert all(e.validation_loss is e.validation_score is None for e in model.record.epochs)


def test_several_labels_are_remembered(tagged):
    model = small_model(tagged.classes, backbone=NARROW, multi_label=True)
    headswap.fit(model, tagged, HEAD_ONLY)
    record = model.record
    assert record.result.metric == "mean average precision" and record.reference is None
    assert dict(record.class_counts) == tagged.counts
    for (absent, present), name in zip(record.result.confusion, record.class_counts, strict=True):
        assert sum(absent) + sum(present) == record.result.total, name
    assert again(record) == record


# As JSON


def again(record):
    """As it comes back from JSON."""
    return AS_JSON.validate_python(json.loads(AS_JSON.dump_json(record)))


@pytest.mark.parametrize("plan", [HEAD_ONLY, TWO, dataclasses.replace(THAWED, checkpoint="between", patience=2)])
def test_it_comes_back_from_json_as_it_was(plan, few):
    model = learner(few)
    kept = headswap.fit(model, few, plan)
    assert again(model.record) == model.record
    restore(model, kept.candidates["reference"])
    assert again(model.record) == model.record
    list(headswap.refit(model, few, plan, kept))
    assert again(model.record) == model.record


def record(images=(("a", 2), ("b", 3)), confusion=(), **told):
    given = {
        "plan": HEAD_ONLY,
        "num_training_images": 4,
        "epochs": (EpochRecord(1.0, 0.5, 1.0, 0.5),),
        "phases": (PhaseRecord(1, ()),),
        "checkpoint": "best",
        "epoch": 1,
        "result": ValidationResult(0.5, "accuracy", 1, 2, confusion),
        "reference": None,
        "seconds": 1.0,
    }
    return Record(class_counts=dict(images), **given | told)


@pytest.mark.parametrize("kept", RECORD_CHECKPOINTS)
def test_everything_that_can_be_kept_can_be_remembered(kept):
    assert again(record(checkpoint=kept)).checkpoint == kept


@pytest.mark.parametrize("confusion", [((1, 0), (0, 1)), (((1, 0), (0, 1)), ((2, 0), (0, 0))), ()])
def test_a_matrix_that_fits_comes_back(confusion):
    assert again(record(confusion=confusion)).result.confusion == confusion


@pytest.mark.parametrize(
    "confusion",
    [
        ((1, 0),),
        ((1,), (0,)),
        ((1, 0, 0), (0, 1, 0)),
        ((1, 0), (0,)),
        ((), ()),
        (((1, 0), (0, 1)),),
        (((1, 0), (0, 1)), ((1, 0),)),
        (((1, 0), (0, 1), (0, 0)), ((1, 0), (0, 1), (0, 0))),
        (((1, 0, 0), (0, 1, 0)), ((1, 0, 0), (0, 1, 0))),
        (((1, 0), (0, 1)), (1, 0)),
    ],
)
def test_a_matrix_that_does_not_fit_is_refused(confusion):
    with pytest.raises(ValueError, match="does not fit 2 classes"):
        record(confusion=confusion)


@pytest.mark.parametrize("told", [{"checkpoint": "worst"}, {"checkpoint": ""}, {"epochs": ()}, {"phases": ()}])
def test_a_past_without_its_parts_is_refused(told):
    with pytest.raises(ValueError, match="A training has a phase, an epoch"):
        record(**told)


@pytest.mark.parametrize(
    "score, right, of", [(1.1, 1, 2), (-0.1, 1, 2), (0.5, 3, 2), (0.5, -1, 2), (float("nan"), 1, 2), (0.5, 0, -1)]
)
def test_a_result_that_cannot_be_is_refused(score, right, of):
    with pytest.raises(ValueError, match="cannot be"):
        ValidationResult(score, "accuracy", right, of)


@pytest.mark.parametrize(
    "change",
    [
        {"plan": None},
        {"plan": {"phases": []}},
        {"epochs": "many"},
        {"class_counts": [1, 2]},
        {"class_counts": {"a": "lots"}},
        {"checkpoint": 3},
        {"seconds": None},
        {"result": {"score": 2.0, "metric": "accuracy", "correct": 1, "total": 1}},
    ],
)
def test_json_that_is_no_past_is_refused(change):
    plain = json.loads(AS_JSON.dump_json(record())) | change
    with pytest.raises(ValidationError):
        AS_JSON.validate_python(plain)


def test_of_a_million_wrong_counts_the_first_is_told():
    plain = json.loads(AS_JSON.dump_json(record()))
    plain["result"]["confusion"] = [["many"] * 100_000] * 2
    with pytest.raises(ValidationError) as caught:
        AS_JSON.validate_python(plain)
    assert caught.value.error_count() < 10
