"""A trained model for whoever has no PyTorch at hand: as ONNX, and as torch's own exported program.

Pictures go in as uint8 ``[N, size, size, 3]``, already cropped or fitted; probabilities come out. What is written was
loaded again and compared before. Knows nothing of folders, pages and how a model is taught.
"""

from __future__ import annotations

import copy
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from headswap.common.atomic import atomic_write_bytes
from headswap.common.errors import InputError
from headswap.export.parity import GoldenSamples, ParityReport, PredictFn, check_parity, make_golden_samples
from headswap.features.onnx_tracing import create_session, exclusive_export, trace_to_onnx
from headswap.networks.catalogue import find_backbone
from headswap.networks.classifier import Classifier
from headswap.networks.stage import count_parameters

MAX_ONNX_PARAMETERS = 400_000_000  # weights; one ONNX file ends at two gigabytes
INPUT_NAME, OUTPUT_NAME = "pixels", "probabilities"


class ExportableClassifier(nn.Module):
    """A classifier with its normalisation inside: uint8 ``[N, size, size, 3]`` to probabilities ``[N, classes]``."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        mean, deviation = (torch.tensor(v) for v in (model.preprocess.mean, model.preprocess.std))
        self.register_buffer("scale", (1 / (255 * deviation)).view(3, 1, 1))
        self.register_buffer("shift", (-mean / deviation).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self.model(pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift)
        return logits.sigmoid() if self.model.multi_label else logits.softmax(1)


def build_export_metadata(model: Classifier) -> dict[str, object]:
    """What whoever runs an exported model must know, as plain data."""
    wanted = model.preprocess
    told: dict[str, object] = {
        "classes": list(model.classes),
        "size": wanted.size,
        "resize": wanted.resize,
        "crop": wanted.crop,
        "interpolation": wanted.interpolation,
        "multi_label": model.multi_label,
        "backbone": model.backbone,
        "licence": _backbone_license(model),
    }
    if model.multi_label:
        told["thresholds"] = [float(f"{t:.7g}") for t in model.thresholds.tolist()]
    return told


def export_onnx(model: Classifier, path: str | os.PathLike[str], golden: GoldenSamples | None = None) -> ParityReport:
    """Write one ONNX file: uint8 ``[N, size, size, 3]`` in, probabilities ``[N, classes]`` out, N free.

    Its metadata hold the classes, the size and how pictures are brought to it, as JSON under ``headswap``. It was
    loaded by ONNX Runtime and compared on ``known``, by default five drawn images, before it takes an old one's place.

    Returns:
        What the comparison said.

    Raises:
        InputError: if the network cannot be expressed in ONNX, or the file cannot be written. What was there stays.
    """
    golden = golden or make_golden_samples(model)
    if count_parameters(model) > MAX_ONNX_PARAMETERS:
        raise InputError(f"{model.backbone} is too large for one ONNX file; save it as a .headswap file instead.")
    with _translate_export_errors(model, "in ONNX"):
        content = _finalize_onnx(
            trace_to_onnx(ExportableClassifier(model), golden.pixels[:2], INPUT_NAME, [OUTPUT_NAME]), model
        )
        proof = check_parity("The ONNX file", make_onnx_predict_fn(content), golden)
    atomic_write_bytes(path, content)
    return proof


def export_program(
    model: Classifier, path: str | os.PathLike[str], golden: GoldenSamples | None = None
) -> ParityReport:
    """Write a ``.pt2`` file, which torch alone runs: ``torch.export.load(path).module()(pixels)``.

    As ``export_onnx`` otherwise; the file carries the same words under ``headswap``.
    """
    golden = golden or make_golden_samples(model)
    with _translate_export_errors(model, "by torch.export"):
        network, batch = ExportableClassifier(model), torch.export.Dim("pictures", min=1, max=4096)
        with exclusive_export(network):
            program = torch.export.export(network, (golden.pixels[:2],), dynamic_shapes=({0: batch},))
            file = io.BytesIO()
            torch.export.save(program, file, extra_files={"headswap": json.dumps(build_export_metadata(model))})
            file.seek(0)
            again = torch.export.load(file).module()
            with torch.no_grad():
                proof = check_parity("The exported program", again, golden)
    atomic_write_bytes(path, file.getvalue())
    return proof


def make_onnx_predict_fn(path_or_bytes: bytes | Path) -> PredictFn:
    """A function from pixels to probabilities, by ONNX Runtime on the processor."""
    session = create_session(path_or_bytes)

    def answer(pixels: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT_NAME], {INPUT_NAME: pixels.numpy()})[0])

    return answer


def _finalize_onnx(onnx_bytes: bytes, model: Classifier) -> bytes:
    """The file with the model's words in it, and without the places in source code that an exporter notes down."""
    import onnx

    proto = onnx.load_from_string(onnx_bytes)
    for graph in _iter_graphs(proto):
        for node in graph.node:
            node.ClearField("doc_string")
            node.ClearField("metadata_props")
        graph.ClearField("doc_string")
        graph.ClearField("metadata_props")
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
    proto.producer_name = "headswap"
    onnx.helper.set_model_props(proto, {"headswap": json.dumps(build_export_metadata(model), ensure_ascii=False)})
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def _iter_graphs(model_proto) -> Iterator:
    waiting = [model_proto.graph, *model_proto.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting += [attribute.g for attribute in node.attribute if attribute.HasField("g")]


@contextmanager
def _translate_export_errors(model: Classifier, target_format: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever an exporter stumbles over in a network that it was not made for
        raise InputError(
            f"{model.backbone} with this head cannot be expressed {target_format}. Save it as a .headswap file, or choose "
            "another backbone."
        ) from error


def _backbone_license(model: Classifier) -> str:
    try:
        return find_backbone(model.backbone).license
    except ValueError:  # somebody's own network
        return ""
