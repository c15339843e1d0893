"""Exports a Classifier to ONNX, with normalization inside, and checks the result with ONNX Runtime.

The file is compared with the model before it is written. Knows nothing of folders, pages and training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from headswap.common.atomic import atomic_write_bytes
from headswap.common.errors import InputError
from headswap.common.extras import needs_extra
from headswap.export.parity import GoldenSamples, ParityReport, PredictFn, check_parity, make_golden_samples
from headswap.export.torch_program import (
    METADATA_KEY,
    ExportableClassifier,
    build_export_metadata,
    translate_export_errors,
)
from headswap.features.onnx_tracing import create_session, import_onnxruntime, trace_to_onnx
from headswap.networks.classifier import Classifier
from headswap.networks.stage import count_parameters

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto

MAX_ONNX_PARAMETERS = 400_000_000  # in float32 they fill most of the 2 GB that one ONNX file can hold
INPUT_NAME, OUTPUT_NAME = "pixels", "probabilities"


def export_onnx(model: Classifier, path: str | os.PathLike[str], golden: GoldenSamples | None = None) -> ParityReport:
    """Export a model to one ONNX file: uint8 ``[N, size, size, 3]`` in, probabilities ``[N, classes]`` out, any N.

    Classes, input size and preprocessing are in the file's metadata, as JSON under ``headswap``. Before the file is
    written, ONNX Runtime loads it and its output is compared with the model's.

    Args:
        model: a trained model; it is not changed.
        path: the file to write.
        golden: the samples to compare on, five synthetic images by default.

    Returns:
        The result of the comparison.

    Raises:
        InputError: if the extra "onnx" is missing, the network cannot be expressed in ONNX or the file cannot be
            written. A file at ``path`` is kept then.
    """
    with needs_extra("onnx", "ONNX"):  # before time is spent on tracing
        import onnx  # noqa: F401
    import_onnxruntime()
    golden = golden or make_golden_samples(model)
    if count_parameters(model) > MAX_ONNX_PARAMETERS:
        raise InputError(f"{model.backbone} is too large for one ONNX file; save it as a .headswap file instead.")
    with translate_export_errors(model, "in ONNX"):
        traced = trace_to_onnx(ExportableClassifier(model), golden.pixels[:2], INPUT_NAME, [OUTPUT_NAME])
        content = _finalize_onnx(traced, model)
        parity = check_parity("The ONNX file", make_onnx_predict_fn(content), golden)
    atomic_write_bytes(path, content)
    return parity


def make_onnx_predict_fn(path_or_bytes: bytes | Path) -> PredictFn:
    """A function from pixels to probabilities that runs an exported ONNX file with ONNX Runtime on the CPU."""
    session = create_session(path_or_bytes, torch.get_num_threads())

    def predict(pixels: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT_NAME], {INPUT_NAME: pixels.numpy()})[0])

    return predict


def _finalize_onnx(onnx_bytes: bytes, model: Classifier) -> bytes:
    """Add the metadata, and remove the paths of source files that the exporter writes into every node."""
    with needs_extra("onnx", "ONNX"):
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
    metadata = json.dumps(build_export_metadata(model), ensure_ascii=False)
    onnx.helper.set_model_props(proto, {METADATA_KEY: metadata})
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content


def _iter_graphs(proto: ModelProto) -> Iterator[GraphProto | FunctionProto]:
    """The graph, the functions, and the graphs in their nodes' attributes."""
    pending: list[GraphProto | FunctionProto] = [proto.graph, *proto.functions]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            pending += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
