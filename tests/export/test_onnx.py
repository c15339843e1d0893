"""A model as ONNX and as torch's exported program answers as the model does, and says what it needs to be run."""

import getpass
import json
import logging
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from bundles import FAMILIES, side_of, tiny_model
from drawings import SHAPES, small_model

import headswap
from headswap import InputError
from headswap.export import onnx as exports
from headswap.export import torch_program
from headswap.export.parity import ParityError
from headswap.features import inference
from headswap.networks.head_registry import HEADS

TWENTY = 20


def sure(model):
    """A head that begins small would let every answer be a third, and no difference be seen."""
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.normal_(std=0.3)
    return model.eval()


def squares(model, count=TWENTY):
    """uint8 ``[count, size, size, 3]``, drawn at random."""
    side = model.preprocess.size
    chance = torch.Generator().manual_seed(7)
    coarse = torch.randint(256, (count, 3, 8, 8), generator=chance).float()
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 255)
    return smooth.byte().movedim(1, -1).contiguous()


def agree(model, path):
    given = squares(model)
    wanted = model.predict_proba_cropped(given.movedim(-1, 1))
    answered = exports.make_onnx_predict_fn(path)(given)
    assert torch.equal(answered.argmax(1), wanted.argmax(1))
    return float((answered - wanted).abs().max())


def words(path):
    return json.loads({p.key: p.value for p in onnx.load(str(path)).metadata_props}["headswap"])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_every_family_gives_the_same_labels_and_probabilities(name, tmp_path):
    model = sure(small_model(backbone=name, side=side_of(name)))
    proof = headswap.export_onnx(model, tmp_path / "model.onnx")
    assert proof.max_difference <= 1e-4 and proof.num_images == 5
    assert agree(model, tmp_path / "model.onnx") <= 1e-4


@pytest.mark.parametrize("head", HEADS)
def test_every_head_gives_the_same_labels_and_probabilities(head, tmp_path):
    model = sure(tiny_model(sorted(SHAPES), head=head))
    headswap.export_onnx(model, tmp_path / "model.onnx")
    assert agree(model, tmp_path / "model.onnx") <= 1e-4


def test_several_labels_have_probabilities_of_their_own_and_their_thresholds(tmp_path):
    model = sure(tiny_model(sorted(SHAPES), multi_label=True))
    model.thresholds.copy_(torch.tensor([0.25, 0.5, 0.75]))
    headswap.export_onnx(model, tmp_path / "model.onnx")
    given = squares(model)
    answered = exports.make_onnx_predict_fn(tmp_path / "model.onnx")(given)
    assert torch.allclose(answered, model.predict_proba_cropped(given.movedim(-1, 1)), atol=1e-4)
    assert not torch.allclose(answered.sum(1), torch.ones(TWENTY))
    told = words(tmp_path / "model.onnx")
    assert told["multi_label"] and told["thresholds"] == [0.25, 0.5, 0.75]


def test_one_file_says_what_goes_in_and_what_comes_out(tmp_path):
    model = tiny_model(["réséda", 'a "quoted" one', "犬"], crop="fit")
    headswap.export_onnx(model, tmp_path / "model.onnx")
    proto = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False)
    [given], [told] = proto.graph.input, proto.graph.output
    side = model.preprocess.size
    sizes = [axis.dim_value or axis.dim_param for axis in given.type.tensor_type.shape.dim]
    assert (given.name, given.type.tensor_type.elem_type) == ("pixels", onnx.TensorProto.UINT8)
    assert sizes == ["pictures", side, side, 3]
    assert (told.name, [axis.dim_value or axis.dim_param for axis in told.type.tensor_type.shape.dim]) == (
        "probabilities",
        ["pictures", 3],
    )
    assert not any(weight.external_data for weight in proto.graph.initializer)
    assert words(tmp_path / "model.onnx") == torch_program.build_export_metadata(model)
    assert words(tmp_path / "model.onnx")["classes"] == list(model.classes)
    assert words(tmp_path / "model.onnx")["crop"] == "fit"


def test_nothing_of_this_machine_is_in_the_file(tmp_path):
    model = tiny_model(sorted(SHAPES), head="attention")
    headswap.export_onnx(model, tmp_path / "model.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    places = (str(Path(headswap.__file__).parent), str(Path(torch.__file__).parent), str(Path.home()), str(tmp_path))
    for place in (*places, tempfile.gettempdir(), ".py"):
        assert place.encode() not in content
    if len(getpass.getuser()) > 4:
        assert getpass.getuser().encode() not in content


def test_an_exported_program_answers_the_same_and_says_its_classes(tmp_path):
    model = sure(tiny_model(sorted(SHAPES)))
    proof = torch_program.export_program(model, tmp_path / "model.pt2")
    assert proof.max_difference <= 1e-4
    told = {"headswap": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=told).module()
    given = squares(model, 3)
    assert torch.allclose(program(given), model.predict_proba_cropped(given.movedim(-1, 1)), atol=1e-4)
    assert json.loads(told["headswap"])["classes"] == sorted(SHAPES)


@pytest.mark.parametrize(
    ("module", "export"), [(exports, exports.export_onnx), (torch_program, torch_program.export_program)]
)
def test_what_disagrees_is_not_written(module, export, tmp_path, monkeypatch):
    model, path = tiny_model(sorted(SHAPES)), tmp_path / "model"
    path.write_bytes(b"what was there")

    def differ(*_):
        raise ParityError("It differs.")

    monkeypatch.setattr(module, "check_parity", differ)
    with pytest.raises(InputError, match="cannot be expressed"):
        export(model, path)
    assert path.read_bytes() == b"what was there" and [*tmp_path.iterdir()] == [path]


def test_a_network_that_cannot_be_traced_is_said_in_a_sentence(tmp_path):
    model = tiny_model(sorted(SHAPES))
    model.head = Untraceable(model.head)
    with pytest.raises(InputError, match=r"cannot be expressed in ONNX\. Save it as a \.headswap file"):
        headswap.export_onnx(model, tmp_path / "model.onnx")


class Untraceable(torch.nn.Module):
    """Does something that ONNX has no words for."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x):
        return self.head(torch.linalg.lstsq(x @ x.T + torch.eye(len(x)), x).solution * 0 + x)


def test_a_network_that_is_too_large_for_one_file_is_said_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(exports, "MAX_ONNX_PARAMETERS", 1000)
    monkeypatch.setattr(exports, "trace_to_onnx", None)
    with pytest.raises(InputError, match="too large for one ONNX file"):
        headswap.export_onnx(tiny_model(sorted(SHAPES)), tmp_path / "model.onnx")


def test_several_export_at_once_while_the_frozen_stages_of_another_are_exported(tmp_path, caplog):
    """Torch's exporter keeps what it does in globals."""
    caplog.set_level(logging.INFO, inference.__name__)
    models = [tiny_model(sorted(SHAPES), head=head) for head in ("linear", "attention")]
    frozen = small_model(backbone="mobilenet_v3_small", side=64).eval()
    answers, problems, together = [], [], threading.Barrier(4)

    def at_once(act):
        try:
            together.wait(60)
            act()
        except Exception as problem:
            problems.append(problem)

    def read():
        stages = inference.build_stage_runner(frozen.feature_stages, [len(frozen.feature_stages)], "onnxruntime")
        answers.append(stages(torch.zeros(4, 3, 64, 64)))

    acts = [lambda m=m: headswap.export_onnx(m, tmp_path / f"{id(m)}.onnx") for m in models]
    acts += [read, lambda: torch_program.export_program(models[0], tmp_path / "model.pt2")]
    threads = [threading.Thread(target=at_once, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert problems == [] and len(answers) == 1
    assert len(list(tmp_path.glob("*.onnx"))) == 2
    assert [record.getMessage() for record in caplog.records if record.name == inference.__name__] == []


def test_attention_computes_as_ever_for_others_while_a_model_is_exported(tmp_path, monkeypatch):
    seen, really = [], torch.onnx.export
    monkeypatch.setattr(
        torch.onnx,
        "export",
        lambda *given, **named: seen.append(torch.backends.mha.get_fastpath_enabled()) or really(*given, **named),
    )
    headswap.export_onnx(tiny_model(sorted(SHAPES), head="attention"), tmp_path / "model.onnx")
    assert seen == [True]


def test_the_model_stays_as_it_was(tmp_path):
    model = tiny_model(sorted(SHAPES)).unfreeze(2).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    headswap.export_onnx(model, tmp_path / "model.onnx")
    assert model.training and len(model.learning_stages) == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()


def test_other_pixels_give_other_answers(tmp_path):
    model = sure(tiny_model(sorted(SHAPES)))
    model.preprocess = replace(model.preprocess, mean=(0.1, 0.5, 0.9), std=(0.2, 0.5, 0.3))
    headswap.export_onnx(model, tmp_path / "model.onnx")
    assert agree(model, tmp_path / "model.onnx") <= 1e-4
    first, second = exports.make_onnx_predict_fn(tmp_path / "model.onnx")(squares(model, 2))
    assert not torch.allclose(first, second, atol=1e-3)
