"""Pushing a folder to the Hugging Face hub, with clear words where there is no network or no token.

Knows nothing of models: files in, an address out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from headswap.common.errors import InputError
from headswap.common.text import harmless

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
LOGIN = "Log in with `hf auth login`, or give a token with write access from https://huggingface.co/settings/tokens."


def push(
    files: Mapping[str, bytes], repository: str, *, space: bool = False, private: bool = True, token: str | None = None
) -> str:
    """Create a repository, or add to one that is yours; returns its address.

    Args:
        files: by their paths in the repository.
        repository: ``"your-name/its-name"``.
        space: a Space instead of a model.
        private: nobody else sees it, if it is created now.
        token: of whoever it is pushed for. By default, the one that is logged in on this computer.

    Raises:
        InputError: without a token that may write there, or a network, or where the name is none.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if not REPOSITORY.fullmatch(repository):
        raise InputError(f"A repository is called your-name/its-name, and not '{harmless(repository)[:60]}'.")
    token = token or get_token()
    if not token:
        raise InputError(f"Nobody is logged in to the Hugging Face hub on this computer. {LOGIN}")
    kind, told = ("space", {"space_sdk": "gradio"}) if space else ("model", {})
    api = HfApi(token=token, library_name="headswap")
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        url = api.create_repo(repository, repo_type=kind, private=private, exist_ok=True, **told)
        api.create_commit(repository, operations, commit_message="Push from headswap", repo_type=kind)
    except Exception as error:  # the client's HTTP library, and with it its errors, has changed more than once
        raise InputError(_explained(error, repository)) from error
    return str(url)


def _explained(error: Exception, repository: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"The hub does not know this token. {LOGIN}"
    if status == 403:
        return f"This token may not write to {repository}. {LOGIN}"
    if status is not None:
        return f"The hub refused {repository} ({status}): {harmless(str(error).splitlines()[-1])[:200]}"
    return (
        "The Hugging Face hub cannot be reached. Connect to the internet and try again, or keep the folder and push it "
        "later."
    )
