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

from headswap.common.atomic import write
from headswap.common.errors import InputError
from headswap.export.parity import Answer, Golden, Proof, golden, prove
from headswap.features.onnx_tracing import exporting, traced, without_fast_attention
from headswap.networks.catalogue import find
from headswap.networks.classifier import Classifier
from headswap.networks.stage import count_weights

MOST_EXPORTED = 400_000_000  # weights; one ONNX file ends at two gigabytes
INPUT, OUTPUT = "pixels", "probabilities"


class Deployed(nn.Module):
    """A classifier with its normalisation inside: uint8 ``[N, size, size, 3]`` to probabilities ``[N, classes]``."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        mean, deviation = (torch.tensor(v) for v in (model.preprocess.mean, model.preprocess.deviation))
        self.register_buffer("scale", (1 / (255 * deviation)).view(3, 1, 1))
        self.register_buffer("shift", (-mean / deviation).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        logits = self.model(pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift)
        return logits.sigmoid() if self.model.multi_label else logits.softmax(1)


def about(model: Classifier) -> dict[str, object]:
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
        "licence": _licence(model),
    }
    if model.multi_label:
        told["thresholds"] = [float(f"{t:.7g}") for t in model.thresholds.tolist()]
    return told


def export_onnx(model: Classifier, path: str | os.PathLike[str], known: Golden | None = None) -> Proof:
    """Write one ONNX file: uint8 ``[N, size, size, 3]`` in, probabilities ``[N, classes]`` out, N free.

    Its metadata hold the classes, the size and how pictures are brought to it, as JSON under ``headswap``. It was
    loaded by ONNX Runtime and compared on ``known``, by default five drawn images, before it takes an old one's place.

    Returns:
        What the comparison said.

    Raises:
        InputError: if the network cannot be expressed in ONNX, or the file cannot be written. What was there stays.
    """
    known = known or golden(model)
    if count_weights(model) > MOST_EXPORTED:
        raise InputError(f"{model.backbone} is too large for one ONNX file; save it as a .headswap file instead.")
    with _explaining(model, "in ONNX"):
        content = _finished(traced(Deployed(model), known.squares[:2], INPUT, [OUTPUT]), model)
        proof = prove("The ONNX file", run_onnx(content), known)
    write(path, content)
    return proof


def export_program(model: Classifier, path: str | os.PathLike[str], known: Golden | None = None) -> Proof:
    """Write a ``.pt2`` file, which torch alone runs: ``torch.export.load(path).module()(pixels)``.

    As ``export_onnx`` otherwise; the file carries the same words under ``headswap``.
    """
    known = known or golden(model)
    with _explaining(model, "by torch.export"), exporting():
        network, batch = Deployed(model), torch.export.Dim("pictures", min=1, max=4096)
        without_fast_attention(network)
        program = torch.export.export(network, (known.squares[:2],), dynamic_shapes=({0: batch},))
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={"headswap": json.dumps(about(model))})
        file.seek(0)
        again = torch.export.load(file).module()
        with torch.no_grad():
            proof = prove("The exported program", again, known)
    write(path, file.getvalue())
    return proof


def run_onnx(content: bytes | Path) -> Answer:
    """A function from pixels to probabilities, by ONNX Runtime on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    source = content if isinstance(content, bytes) else str(content)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def answer(pixels: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: pixels.numpy()})[0])

    return answer


def _finished(content: bytes, model: Classifier) -> bytes:
    """The file with the model's words in it, and without the places in source code that an exporter notes down."""
    import onnx

    proto = onnx.load_from_string(content)
    for graph in _graphs(proto):
        for node in graph.node:
            node.ClearField("doc_string")
            node.ClearField("metadata_props")
        graph.ClearField("doc_string")
        graph.ClearField("metadata_props")
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
    proto.producer_name = "headswap"
    onnx.helper.set_model_props(proto, {"headswap": json.dumps(about(model), ensure_ascii=False)})
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def _graphs(proto) -> Iterator:
    waiting = [proto.graph, *proto.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            waiting += [attribute.g for attribute in node.attribute if attribute.HasField("g")]


@contextmanager
def _explaining(model: Classifier, how: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever an exporter stumbles over in a network that it was not made for
        raise InputError(
            f"{model.backbone} with this head cannot be expressed {how}. Save it as a .headswap file, or choose "
            "another backbone."
        ) from error


def _licence(model: Classifier) -> str:
    try:
        return find(model.backbone).licence
    except ValueError:  # somebody's own network
        return ""
