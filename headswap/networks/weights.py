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

Progress = Callable[[int, int], None]  # bytes that have come, and all bytes or 0 where nobody says how many

PATIENCE = 30  # seconds that a server may be silent
CHUNK = 2**17
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # what timm looks for in a repository, in this order


class DownloadError(OSError):
    """A file that did not come, or not as it was published."""


def torch_file(url: str) -> Path:
    """Where torch keeps, or would keep, what it downloads from an address."""
    return Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlparse(url).path).name)


def fetch(url: str, progress: Progress | None = None) -> Path:
    """Download a file into torch's cache: all of it and with the hash in its name, or nothing.

    Raises:
        DownloadError: if it does not come, or differs from what was published. Whatever ``progress`` raises ends the
            download as well.
    """
    path = torch_file(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")  # two may download the same at a time
    try:
        _receive(url, partial, progress or _unseen)
        os.replace(partial, path)
    except (OSError, HTTPException) as error:
        raise DownloadError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _receive(url: str, partial: Path, progress: Progress) -> None:
    published = re.search(r"-([0-9a-f]{8,})\.", PurePosixPath(urlparse(url).path).name)
    digest, done = hashlib.sha256(), 0
    request = Request(url, headers={"User-Agent": "headswap"})
    # Through torch's name for it, so that whoever turns torch's downloads off or elsewhere turns these as well.
    with torch.hub.urlopen(request, timeout=PATIENCE) as response, partial.open("xb") as file:
        total = int(response.info().get("Content-Length") or 0)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            progress(done, total)
    if total and done != total:
        raise DownloadError(f"only {done} of {total} bytes came")
    if published and not digest.hexdigest().startswith(published[1]):
        raise DownloadError("what came has another hash than was published")


def hub_file(repository: str) -> Path:
    """Where the hub's cache keeps the weights of a repository, or would find them."""
    for name in HUB_FILES:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    folder = Path(hub.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type="model"))
    main = folder / "refs" / "main"
    return folder / "snapshots" / (main.read_text() if main.is_file() else "main") / HUB_FILES[0]


def fetch_from_hub(repository: str, progress: Progress | None = None) -> Path:
    """Download the weights of a repository into the hub's cache, by the hub's own client.

    ``progress`` hears of the beginning and the end only.

    Raises:
        DownloadError: if they do not come.
    """
    report = progress or _unseen
    with _as_download_errors():
        name, size = _at_the_hub(repository)
    report(0, size)
    with _as_download_errors():
        path = Path(hf_hub_download(repository, name))
    report(size, size)
    return path


def _at_the_hub(repository: str) -> tuple[str, int]:
    """The file with the weights of a repository and its bytes.

    Asked once and by itself: without a network the client's own download tries again for most of a minute.
    """
    for name in HUB_FILES:
        try:
            return name, get_hf_file_metadata(hf_hub_url(repository, name)).size or 0
        except EntryNotFoundError:
            continue
    raise DownloadError(f"the repository has neither {' nor '.join(HUB_FILES)}")


@contextmanager
def _as_download_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the client's HTTP library, and with it its errors, has changed more than once
        raise DownloadError(str(error)) from error


def _unseen(done: int, total: int) -> None:
    """Progress that nobody looks at."""
