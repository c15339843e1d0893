"""Pushes files to a Hugging Face Hub repository and explains HTTP and login errors.

Knows nothing of models.
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
    """Push files to a repository of the Hugging Face Hub in one commit; the repository is created if necessary.

    Args:
        files: the contents by their paths in the repository.
        repo_id: ``"your-name/its-name"``.
        space: whether the repository is a Space with the Gradio SDK instead of a model.
        private: whether a repository that is created is private; an existing one keeps its visibility.
        token: a token with write access, by default that of the user who is logged in on this computer.

    Returns:
        The repository's URL.

    Raises:
        InputError: if the name is invalid, nobody is logged in, the token may not write, or the hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if not REPO_ID_PATTERN.fullmatch(repo_id):
        raise InputError(f"A repository is called your-name/its-name, and not '{sanitize(repo_id)[:60]}'.")
    token = token or get_token()
    if not token:
        raise InputError(f"Nobody is logged in to the Hugging Face hub on this computer. {LOGIN_HINT}")
    repo_type = "space" if space else "model"
    api = HfApi(token=token, library_name="headswap")
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        url = api.create_repo(
            repo_id, repo_type=repo_type, private=private, exist_ok=True, space_sdk="gradio" if space else None
        )
        api.create_commit(repo_id, operations, commit_message="Push from headswap", repo_type=repo_type)
    except Exception as error:  # the client has changed its HTTP library, and so its errors, more than once
        raise InputError(_explain_hub_error(error, repo_id)) from error
    return str(url)


def _explain_hub_error(error: Exception, repo_id: str) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"The hub does not know this token. {LOGIN_HINT}"
    if status == 403:
        return f"This token may not write to {repo_id}. {LOGIN_HINT}"
    if status is not None:
        last_line = (str(error).splitlines() or [""])[-1]
        return f"The hub refused {repo_id} ({status}): {sanitize(last_line)[:200]}"
    return (
        "The Hugging Face hub cannot be reached. Connect to the internet and try again, or keep the folder and push it "
        "later."
    )
