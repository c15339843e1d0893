"""Locates weight files in the torch and Hugging Face caches and downloads them, completely or not at all.

Both caches, torch's (``TORCH_HOME``) and the Hugging Face hub's (``HF_HOME``), have the layout of torchvision and timm.
Where the name of a file contains a hash, the download is verified. Knows nothing of networks.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse
from urllib.request import Request
from uuid import uuid4

import torch
from huggingface_hub import constants as hub
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.file_download import repo_folder_name

DownloadProgress = Callable[[int, int], None]  # bytes downloaded, and all bytes or 0 where they are not known

TIMEOUT_SECONDS = 30  # for each read
CHUNK_BYTES = 2**17
HUB_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in the order in which timm looks for them


class DownloadError(OSError):
    """A file could not be downloaded, or is not as it was published."""


def get_torch_cache_path(url: str) -> Path:
    """The path of torch's cache for what it downloads from a URL."""
    return Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlparse(url).path).name)


def download_to_torch_cache(url: str, progress: DownloadProgress | None = None) -> Path:
    """Download a file into torch's cache, completely and with the hash in its name, or not at all.

    Args:
        url: of the file.
        progress: called after each chunk; what it raises ends the download.

    Raises:
        DownloadError: if it cannot be downloaded, or has another hash.
    """
    path = get_torch_cache_path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(
        f"{path.name}.{uuid4().hex}.partial"
    )  # several processes may download the same file at once
    try:
        _download(url, partial, progress or _ignore_progress)
        os.replace(partial, path)
    except (OSError, HTTPException) as error:
        raise DownloadError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _download(url: str, partial_path: Path, progress: DownloadProgress) -> None:
    published_hash = re.search(r"-([0-9a-f]{8,})\.", PurePosixPath(urlparse(url).path).name)
    digest, done = hashlib.sha256(), 0
    request = Request(url, headers={"User-Agent": "headswap"})
    # By torch's own name for it, so that replacing torch.hub.urlopen redirects these downloads as well.
    with (
        torch.hub.urlopen(request, timeout=TIMEOUT_SECONDS) as response,  # type: ignore[attr-defined]  # see above
        partial_path.open("xb") as file,
    ):
        total = int(response.info().get("Content-Length") or 0)
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    if total and done != total:
        raise DownloadError(f"only {done} of {total} bytes came")
    if published_hash and not digest.hexdigest().startswith(published_hash[1]):
        raise DownloadError("what came has another hash than was published")


def get_hub_cache_path(repo_id: str) -> Path:
    """The path of the weights of a repository in the hub's cache, or where they would be."""
    for name in HUB_WEIGHT_FILES:
        cached = try_to_load_from_cache(repo_id, name)
        if isinstance(cached, str):
            return Path(cached)
    folder = Path(hub.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model"))
    main = folder / "refs" / "main"
    return folder / "snapshots" / (main.read_text() if main.is_file() else "main") / HUB_WEIGHT_FILES[0]


def download_from_hub(repo_id: str, progress: DownloadProgress | None = None) -> Path:
    """Download the weights of a repository into the hub's cache, by the hub's own client.

    Args:
        repo_id: of the repository, as "timm/resnet18.a1_in1k".
        progress: called at the beginning and at the end.

    Raises:
        DownloadError: if they cannot be downloaded.
    """
    report = progress or _ignore_progress
    with _raise_as_download_error():
        name, size = _find_hub_weights(repo_id)
    report(0, size)
    with _raise_as_download_error():
        path = Path(hf_hub_download(repo_id, name))
    report(size, size)
    return path


def _find_hub_weights(repo_id: str) -> tuple[str, int]:
    """Find the file with the weights of a repository, and its size in bytes.

    In a request of its own: without a network the client's download would retry for most of a minute.
    """
    for name in HUB_WEIGHT_FILES:
        try:
            return name, get_hf_file_metadata(hf_hub_url(repo_id, name)).size or 0
        except EntryNotFoundError:
            continue
    raise DownloadError(f"the repository has neither {' nor '.join(HUB_WEIGHT_FILES)}")


@contextmanager
def _raise_as_download_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the client has changed its HTTP library, and with it the errors, more than once
        raise DownloadError(str(error)) from error


def _ignore_progress(done: int, total: int) -> None:
    """Do nothing; the default for ``progress``."""
