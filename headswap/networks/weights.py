"""Files of weights: where they lie on this machine, and how they get there whole or not at all.

Two caches: torch's (``TORCH_HOME``) and the Hugging Face hub's (``HF_HOME``), laid out as torchvision and timm lay them
out. What lies there is never asked for again. Knows nothing of networks.
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

DownloadProgress = Callable[[int, int], None]  # bytes that have come, and all bytes or 0 where nobody says how many

TIMEOUT_SECONDS = 30  # seconds that a server may be silent
CHUNK_BYTES = 2**17
HUB_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # what timm looks for in a repository, in this order


class DownloadError(OSError):
    """A file that did not come, or not as it was published."""


def get_torch_cache_path(url: str) -> Path:
    """Where torch keeps, or would keep, what it downloads from an address."""
    return Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlparse(url).path).name)


def download_to_torch_cache(url: str, progress: DownloadProgress | None = None) -> Path:
    """Download a file into torch's cache: all of it and with the hash in its name, or nothing.

    Raises:
        DownloadError: if it does not come, or differs from what was published. Whatever ``progress`` raises ends the
            download as well.
    """
    path = get_torch_cache_path(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")  # two may download the same at a time
    try:
        _download(url, partial, progress or _ignore_progress)
        os.replace(partial, path)
    except (OSError, HTTPException) as error:
        raise DownloadError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _download(url: str, partial_path: Path, progress: DownloadProgress) -> None:
    published = re.search(r"-([0-9a-f]{8,})\.", PurePosixPath(urlparse(url).path).name)
    digest, done = hashlib.sha256(), 0
    request = Request(url, headers={"User-Agent": "headswap"})
    # Through torch's name for it, so that whoever turns torch's downloads off or elsewhere turns these as well.
    with torch.hub.urlopen(request, timeout=TIMEOUT_SECONDS) as response, partial_path.open("xb") as file:
        total = int(response.info().get("Content-Length") or 0)
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    if total and done != total:
        raise DownloadError(f"only {done} of {total} bytes came")
    if published and not digest.hexdigest().startswith(published[1]):
        raise DownloadError("what came has another hash than was published")


def get_hub_cache_path(repo_id: str) -> Path:
    """Where the hub's cache keeps the weights of a repository, or would find them."""
    for name in HUB_WEIGHT_FILES:
        found = try_to_load_from_cache(repo_id, name)
        if isinstance(found, str):
            return Path(found)
    folder = Path(hub.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model"))
    main = folder / "refs" / "main"
    return folder / "snapshots" / (main.read_text() if main.is_file() else "main") / HUB_WEIGHT_FILES[0]


def download_from_hub(repo_id: str, progress: DownloadProgress | None = None) -> Path:
    """Download the weights of a repository into the hub's cache, by the hub's own client.

    ``progress`` hears of the beginning and the end only.

    Raises:
        DownloadError: if they do not come.
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
    """The file with the weights of a repository and its bytes.

    Asked once and by itself: without a network the client's own download tries again for most of a minute.
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
    except Exception as error:  # the client's HTTP library, and with it its errors, has changed more than once
        raise DownloadError(str(error)) from error


def _ignore_progress(done: int, total: int) -> None:
    """Progress that nobody looks at."""
