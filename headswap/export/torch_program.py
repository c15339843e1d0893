"""Exports a Classifier to a torch.export program (.pt2), with normalization inside, and checks the result.

Also holds what every exported form shares: the module with normalization inside, its metadata and its errors. The
program is loaded again and compared with the model before it is written. Knows nothing of folders, pages and training.
"""

from __future__ import annotations

import copy
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from headswap.common.atomic import atomic_write_bytes
from headswap.common.errors import InputError
from headswap.export.parity import GoldenSamples, ParityReport, check_parity, make_golden_samples
from headswap.features.onnx_tracing import exclusive_export
from headswap.networks.catalogue import find_backbone
from headswap.networks.classifier import Classifier

METADATA_KEY = "headswap"  # under which an exported file holds its metadata, as JSON
MAX_BATCH_SIZE = 4096  # images that an exported program takes at once


class ExportableClassifier(nn.Module):
    """A copy of a classifier with normalization inside, on the CPU and in evaluation mode.

    Uint8 ``[N, size, size, 3]`` to probabilities ``[N, classes]``.
    """

    model: Classifier
    scale: Tensor
    shift: Tensor

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        mean, std = torch.tensor(model.preprocess.mean), torch.tensor(model.preprocess.std)
        self.register_buffer("scale", (1 / (255 * std)).view(3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Probabilities ``[N, classes]`` for uint8 ``[N, size, size, 3]``."""
        logits: Tensor = self.model(pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift)
        return logits.sigmoid() if self.model.multi_label else logits.softmax(1)


def build_export_metadata(model: Classifier) -> dict[str, object]:
    """The metadata that inference code needs beside the weights: classes, input size and preprocessing.

    The keys are a file format: ``predict.py`` and ``index.html`` of an exported folder read them.
    """
    preprocess = model.preprocess
    metadata: dict[str, object] = {
        "classes": list(model.classes),
        "size": preprocess.size,
        "resize": preprocess.resize,
        "crop": preprocess.crop,
        "interpolation": preprocess.interpolation,
        "multi_label": model.multi_label,
        "backbone": model.backbone,
        "licence": _get_backbone_license(model),
    }
    if model.multi_label:
        metadata["thresholds"] = [float(f"{t:.7g}") for t in model.thresholds.tolist()]
    return metadata


def export_program(
    model: Classifier, path: str | os.PathLike[str], golden: GoldenSamples | None = None
) -> ParityReport:
    """Export a model to a ``.pt2`` file that needs PyTorch alone: ``torch.export.load(path).module()(pixels)``.

    Uint8 ``[N, size, size, 3]`` in, probabilities ``[N, classes]`` out, with N from 1 to 4096. The file holds the
    metadata of ``export_onnx`` as the extra file ``headswap``.

    Args:
        model: a trained model; it is not changed.
        path: the file to write.
        golden: the samples to compare on, five synthetic images by default.

    Returns:
        The result of the comparison.

    Raises:
        InputError: if the network cannot be exported or the file cannot be written. A file at ``path`` is kept then.
    """
    golden = golden or make_golden_samples(model)
    with translate_export_errors(model, "by torch.export"):
        network, batch = ExportableClassifier(model), torch.export.Dim("pictures", min=1, max=MAX_BATCH_SIZE)
        with exclusive_export(network):
            program = torch.export.export(network, (golden.pixels[:2],), dynamic_shapes=({0: batch},))
            file = io.BytesIO()
            torch.export.save(program, file, extra_files={METADATA_KEY: json.dumps(build_export_metadata(model))})
            file.seek(0)
            reloaded = torch.export.load(file).module()
            with torch.no_grad():
                parity = check_parity("The exported program", reloaded, golden)
    atomic_write_bytes(path, file.getvalue())
    return parity


@contextmanager
def translate_export_errors(model: Classifier, target: str) -> Iterator[None]:
    """Report any error in the block as an ``InputError``: a network that cannot be expressed in the target format.

    Args:
        model: the model that is exported.
        target: the end of the sentence "it cannot be expressed ...", such as ``"in ONNX"``.
    """
    try:
        yield
    except Exception as error:  # exporters raise all kinds of errors for networks that they do not support
        raise InputError(
            f"{model.backbone} with this head cannot be expressed {target}. Save it as a .headswap file, or choose "
            "another backbone."
        ) from error


def _get_backbone_license(model: Classifier) -> str:
    try:
        return find_backbone(model.backbone).license
    except ValueError:  # a network that the user built
        return ""
