"""However frozen stages are run, they give what they give by themselves, and are not touched."""

import copy
import logging
import sys

import pytest
import torch
from drawings import copied, moved, small_model
from every_network import five_ordinarily
from torch import nn

from headswap.common.extras import MissingExtraError
from headswap.features import inference
from headswap.features.inference import RELATIVE_TOLERANCE, MultiOutput, build_stage_runner, fold_batch_norms
from headswap.features.onnx_tracing import create_session, trace_to_onnx

FAMILIES = {
    "shufflenet_v2_x0_5": {},
    "resnet18": {},
    "mobilenet_v3_small": {},
    "efficientnet_lite0": {"pretrained": True},
    "densenet121": {},  # its norms stand before the convolutions
    "squeezenet1_1": {"side": 64},  # no norms
    "timm/test_resnet": {},  # norms that bring their activation along
}
FOLDS_ALL = ("shufflenet_v2_x0_5", "resnet18", "mobilenet_v3_small", "efficientnet_lite0", "timm/test_resnet")


@pytest.fixture(autouse=True)
def nothing_ready():
    inference._engine_cache.clear()
    yield
    inference._engine_cache.clear()


@pytest.fixture
def told(caplog):
    """What was said of engines that could not be used."""
    caplog.set_level(logging.INFO, inference.__name__)
    return lambda: [record.getMessage().split(":")[0] for record in caplog.records if record.name == inference.__name__]


@pytest.fixture
def made(monkeypatch):
    """Which ways were tried, in order."""
    ways = []
    really = inference._try_builder
    monkeypatch.setattr(inference, "_try_builder", lambda make, *how: ways.append(make.__name__) or really(make, *how))
    return ways


@pytest.fixture
def no_onnxruntime(monkeypatch):
    """As if it were not installed."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


def model_of(name):
    return small_model(backbone=name, **FAMILIES[name]).eval()


def pictures(model, count=5, seed=0):
    side = model.preprocess.size
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def run(model, x, engine=None, **how):
    """What arrives behind each part."""
    parts = model.feature_stages
    return build_stage_runner(parts, range(len(parts) + 1), engine, **how)(x)


def agree(some, others):
    return len(some) == len(others) and all(
        a.shape == b.shape and (a - b).abs().max() <= RELATIVE_TOLERANCE * b.abs().max().clamp(min=1)
        for a, b in zip(some, others, strict=True)
    )


def small_stages(seed=0):
    """Two parts in a row: a convolution with a norm that has seen pictures, and a grouped one."""
    torch.manual_seed(seed)
    first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8))
    with torch.no_grad():
        second(first(torch.randn(16, 3, 12, 12)))
    return [first.eval(), second.eval()]


X = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def straight(parts, x=X):
    x = x.contiguous(memory_format=torch.channels_last)  # other formats add up in another order
    with torch.no_grad():
        return [parts[0](x), parts[1](parts[0](x))]


# Agreement


@pytest.mark.parametrize("name", five_ordinarily(FAMILIES))
def test_eager_is_the_stages_themselves(name):
    model = model_of(name)
    x = pictures(model)
    with torch.no_grad():
        wanted = [model.forward_stages(x, 0, stop) for stop in range(len(model.feature_stages) + 1)]
    assert all(map(torch.equal, run(model, x, "eager"), wanted))


@pytest.mark.parametrize("name", five_ordinarily(FAMILIES))
def test_folded_stages_agree_with_themselves(name, told):
    model = model_of(name)
    parts = model.feature_stages
    fast = build_stage_runner(parts, range(len(parts) + 1), "folded")
    for count, seed in ((5, 0), (5, 1), (2, 2)):  # the first is what they were proved on
        x = pictures(model, count, seed)
        assert agree(fast(x), run(model, x, "eager"))
    assert told() == []


@pytest.mark.parametrize("name", five_ordinarily(FAMILIES))
def test_exported_stages_agree_with_themselves(name, told):
    model = model_of(name)
    parts = model.feature_stages
    fast = build_stage_runner(parts, range(len(parts) + 1), "onnxruntime")
    for count, seed in ((5, 0), (5, 1), (2, 2)):
        x = pictures(model, count, seed)
        assert agree(fast(x), run(model, x, "eager"))
    assert told() == []


@pytest.mark.parametrize("name", FOLDS_ALL)
def test_no_norm_is_left_where_each_stands_behind_a_convolution(name):
    model = model_of(name)
    folded = fold_batch_norms(MultiOutput(model.feature_stages, [len(model.feature_stages)]), pictures(model, 1))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


@pytest.mark.parametrize("engine", inference.ENGINES)
@pytest.mark.parametrize("cuts", [[2], [1, 2], [0, 2], [0, 1, 2]])
def test_only_what_was_asked_for_is_told(engine, cuts):
    parts = small_stages()
    answers = build_stage_runner(parts, cuts, engine)(X)
    wanted = [X, *straight(parts)]
    assert agree(answers, [wanted[cut] for cut in cuts])
    assert not any(answer.requires_grad for answer in answers)


@pytest.mark.parametrize("engine", [*inference.ENGINES, None])
def test_without_parts_what_comes_in_goes_out(engine):
    [out] = build_stage_runner([], [0], engine, num_images=1000)(X)
    assert torch.equal(out, X)


@pytest.mark.parametrize("engine", inference.ENGINES)
def test_stages_in_double_precision_answer_in_it(engine):
    parts = [part.double() for part in small_stages()]
    answers = build_stage_runner(parts, [1, 2], engine)(X.double())
    wanted = straight(parts, X.double())
    assert {answer.dtype for answer in answers} == {torch.float64}
    assert all((a - b).abs().max() < 1e-9 for a, b in zip(answers, wanted, strict=True))


# The stages are not touched


@pytest.mark.parametrize("engine", inference.ENGINES)
@pytest.mark.parametrize("learning", [0, 2])
def test_the_stages_are_not_touched(engine, learning):
    model = small_model().unfreeze(learning).eval()
    called = []
    model.stages[1].register_forward_hook(lambda module, *_: called.append(module))
    modules, before = list(model.modules()), copied(model)

    def state():
        marks = [(p.requires_grad, p.grad, p.data_ptr(), p.stride()) for p in model.parameters()]
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in modules]
        return marks, hooks, [m.training for m in modules]

    stood = state()
    run(model, pictures(model), engine)
    assert moved(before, model) == set()
    assert state() == stood
    assert list(model.modules()) == modules


def test_what_was_made_does_not_follow_stages_that_learn_later():
    parts = small_stages()
    wanted = straight(parts)
    fast = build_stage_runner(parts, [1, 2], "folded")
    fast(X)
    with torch.no_grad():
        parts[0][0].weight.mul_(2)
    assert agree(fast(X), wanted)


# Whatever cannot be done


def test_a_folding_that_does_damage_is_not_used(monkeypatch, told):
    parts = small_stages()

    def damaged(network, x):
        other = fold_batch_norms(network, x)
        with torch.no_grad():
            other.stages[1][0].weight.add_(0.01)
        return other

    monkeypatch.setattr(inference, "fold_batch_norms", damaged)
    for engine in ("folded", "onnxruntime"):
        assert all(map(torch.equal, build_stage_runner(parts, [1, 2], engine)(X), straight(parts)))
    assert told()[0] == "_build_folded" and told()[-1] == "_build_folded"
    assert not inference._engine_cache


def test_an_answer_that_is_no_number_does_not_agree(monkeypatch):
    parts = small_stages()

    def damaged(network, x):
        other = fold_batch_norms(network, x)
        with torch.no_grad():
            other.stages[1][0].weight[0] = torch.nan
        return other

    monkeypatch.setattr(inference, "fold_batch_norms", damaged)
    assert all(map(torch.equal, build_stage_runner(parts, [1, 2], "folded")(X), straight(parts)))


class Shared(nn.Module):
    """The convolution's own output is used beside the norm's, which folding cannot see."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.convolution(x)
        return y + self.norm(y)


class Twice(nn.Module):
    """One norm behind two convolutions."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x):
        return self.norm(self.two(self.norm(self.one(x))))


def unknowing():
    """A norm that keeps no statistics."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False))


@pytest.mark.parametrize("odd", [Shared, Twice, unknowing])
def test_networks_that_cannot_be_folded_are_run_as_they_are(odd, told):
    torch.manual_seed(0)
    part = odd()
    with torch.no_grad():
        part(torch.randn(16, 3, 12, 12))
    part.eval()
    assert torch.equal(build_stage_runner([part], [1], "folded")(X)[0], build_stage_runner([part], [1], "eager")(X)[0])
    assert told() == ["_build_folded"]


def test_an_exporter_that_stumbles_leaves_it_to_folding(monkeypatch, told):

    def stumbling(*_, **__):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", stumbling)
    parts = small_stages()
    assert agree(build_stage_runner(parts, [1, 2], "onnxruntime")(X), straight(parts))
    assert told() == ["_build_onnxruntime"]


class ByHeart(nn.Module):
    """An export knows for ever how many pictures there were."""

    def forward(self, x):
        return x.reshape(int(x.shape[0]), -1)


def test_an_export_that_only_takes_as_many_pictures_as_it_was_made_with_is_not_used(told):
    parts = [*small_stages(), ByHeart()]
    fast = build_stage_runner(parts, [3], "onnxruntime")
    fast(X)
    [few] = fast(X[:2])
    assert agree([few], [straight(parts[:2], X[:2])[1].flatten(1)])


def test_without_onnxruntime_stages_are_folded(no_onnxruntime, told):
    parts = small_stages()
    assert agree(build_stage_runner(parts, [1, 2], num_images=1000)(X), straight(parts))
    assert told() == ["_build_onnxruntime"]


def test_who_asks_for_onnxruntime_by_name_hears_that_it_is_missing(no_onnxruntime):
    with pytest.raises(MissingExtraError, match=r'pip install "headswap\[onnx\]"'):
        build_stage_runner(small_stages(), [1, 2], "onnxruntime")


def test_an_unknown_engine_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"There is no engine 'onnx'\. Did you mean onnxruntime\?"):
        build_stage_runner(small_stages(), [2], "onnx")


# What is made once


@pytest.mark.parametrize("engine, way", [("folded", "_build_folded"), ("onnxruntime", "_build_onnxruntime")])
def test_what_was_made_is_ready_for_the_next_run_of_the_same_stages(made, engine, way):
    parts = small_stages()
    first = build_stage_runner(parts, [1, 2], engine)(X)
    again = build_stage_runner(copy.deepcopy(parts), [1, 2], engine)(X)
    assert made == [way, "<lambda>"]
    assert all(map(torch.equal, first, again))


@pytest.mark.parametrize("name", ["weight", "running_var"])
def test_it_is_not_used_for_other_weights(made, name):
    parts = small_stages()
    build_stage_runner(parts, [1, 2], "folded")(X)
    with torch.no_grad():
        getattr(parts[1][1], name).mul_(1.5)
    assert agree(build_stage_runner(parts, [1, 2], "folded")(X), straight(parts))
    assert made == ["_build_folded", "_build_folded"]


def test_it_is_not_used_for_other_cuts(made):
    parts = small_stages()
    assert len(build_stage_runner(parts, [2], "folded")(X)) == 1
    assert len(build_stage_runner(parts, [1, 2], "folded")(X)) == 2
    assert made == ["_build_folded", "_build_folded"]


class Times(nn.Module):
    """Two of them look the same and have no weights."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_it_is_not_used_for_stages_that_look_the_same_and_do_something_else():
    first, second = small_stages()
    build_stage_runner([first, Times(2)], [2], "folded")(X)
    [answer] = build_stage_runner([first, Times(3)], [2], "folded")(X)
    assert agree([answer], [3 * straight([first, second])[0]])


def test_the_last_few_are_kept():
    for seed in range(inference.MAX_CACHED_ENGINES + 2):
        build_stage_runner(small_stages(seed), [2], "folded")(X)
    assert len(inference._engine_cache) == inference.MAX_CACHED_ENGINES


# The suggestion


def suggested(parts, count):
    return inference._choose_engine(MultiOutput(parts, [len(parts)]), count)


def test_the_suggestion_is_the_same_every_time(monkeypatch):
    grouped, plain = small_stages(), small_stages()[:1]
    for _ in range(3):
        assert suggested(grouped, inference.MIN_IMAGES_FOR_EXPORT) == "onnxruntime"
        assert suggested(grouped, inference.MIN_IMAGES_FOR_EXPORT - 1) == "folded"
        assert suggested(plain, 10**6) == "folded"


def test_nothing_is_suggested_where_nothing_is_gained():
    assert suggested([], 10**6) == "eager"
    assert suggested([nn.Conv2d(3, 8, 3)], 10**6) == "eager"
    assert suggested([part.double() for part in small_stages()], 10**6) == "eager"


def test_stages_too_large_to_be_exported_are_folded(monkeypatch):
    monkeypatch.setattr(inference, "MAX_PARAMETERS_FOR_EXPORT", 100)
    assert suggested(small_stages(), 10**6) == "folded"


# The session


def test_a_session_reads_a_file_and_its_bytes_alike(tmp_path):
    content = trace_to_onnx(nn.Sequential(nn.Conv2d(3, 2, 3)).eval(), X, "x", ["y"])
    (tmp_path / "x.onnx").write_bytes(content)
    from_file, from_bytes = (
        create_session(source, num_threads=1).run(["y"], {"x": X.numpy()})[0]
        for source in (tmp_path / "x.onnx", content)
    )
    assert (from_file == from_bytes).all() and from_file.shape == (4, 2, 10, 10)
