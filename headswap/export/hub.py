"""Pushing a folder to the Hugging Face hub, with clear words where there is no network or no token.

Knows nothing of models: files in, an address out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from headswap.common.errors import InputError
from headswap.common.text import sanitize

REPO_ID_PATTERN = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
LOGIN_HINT = (
    "Log in with `hf auth login`, or give a token with write access from https://huggingface.co/settings/tokens."
)


def push_to_hub(
    files: Mapping[str, bytes], repo_id: str, *, space: bool = False, private: bool = True, token: str | None = None
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

    if not REPO_ID_PATTERN.fullmatch(repo_id):
        raise InputError(f"A repository is called your-name/its-name, and not '{sanitize(repo_id)[:60]}'.")
    token = token or get_token()
    if not token:
        raise InputError(f"Nobody is logged in to the Hugging Face hub on this computer. {LOGIN_HINT}")
    kind, told = ("space", {"space_sdk": "gradio"}) if space else ("model", {})
    api = HfApi(token=token, library_name="headswap")
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        url = api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True, **told)
        api.create_commit(repo_id, operations, commit_message="Push from headswap", repo_type=kind)
    except Exception as error:  # the client's HTTP library, and with it its errors, has changed more than once
        raise InputError(_explain_hub_error(error, repo_id)) from error
    return str(url)


def _explain_hub_error(error: Exception, repo_id: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"The hub does not know this token. {LOGIN_HINT}"
    if status == 403:
        return f"This token may not write to {repo_id}. {LOGIN_HINT}"
    if status is not None:
        return f"The hub refused {repo_id} ({status}): {sanitize(str(error).splitlines()[-1])[:200]}"
    return (
        "The Hugging Face hub cannot be reached. Connect to the internet and try again, or keep the folder and push it "
        "later."
    )
