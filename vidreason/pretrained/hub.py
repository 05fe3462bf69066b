"""Reasoner folders on the Hugging Face Hub."""

from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from vidreason.pretrained.folder import PREVIOUS
from vidreason.pretrained.folder_config import LANGUAGE_MODEL_FOLDER
from vidreason.pretrained.published import published_copy
from vidreason.secrets import first_line, refuse_secrets

READ_FILES = ("*.json", "*.jinja", "*.safetensors", "*.model", "*.txt", "*.md")
"""Files that a reasoner folder consists of; whatever else a repository holds is not downloaded."""


def local_reasoner_folder(name_or_path: str | Path, revision: str | None = None) -> Path:
    """The folder called ``name_or_path``, else the copy of the Hub's repository of that name.

    A repository is downloaded unless it is in the cache; with ``HF_HUB_OFFLINE`` set only the cache
    is looked at.

    Args:
        name_or_path: A folder, or a repository on the Hub.
        revision: Commit, tag or branch of the repository; None for its newest.

    Raises:
        ValueError: There is no such folder, and no such repository can be had.
    """
    folder = Path(name_or_path)
    # A folder whose replacement was interrupted lies beside its name; see write_folder.
    if folder.is_dir() or folder.with_name(folder.name + PREVIOUS).is_dir():
        if revision is not None:
            raise ValueError(
                f"revision is {revision!r}, but {str(folder)!r} is a local folder, which has none"
            )
        return folder
    try:
        return Path(
            snapshot_download(str(name_or_path), revision=revision, allow_patterns=list(READ_FILES))
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"there is no reasoner folder {str(name_or_path)!r} here, and no repository of that "
            f"name can be had from the Hugging Face Hub ({first_line(error)})"
        ) from error


def upload(folder: str | Path, repository: str, *, private: bool = True) -> str:
    """Put a reasoner folder on the Hub, as the newest commit of ``repository``.

    Frozen parts that lie at a local path are named there by the hash of their content.

    Args:
        folder: The folder.
        repository: ``owner/name``; it is made if need be.
        private: Whether a repository that is made here is private. The licences of the merged parts
            may not allow it to be anything else.

    Returns:
        Address of the commit.

    Raises:
        ValueError: The Hub refuses, or cannot be reached; or the folder's configuration or card
            holds a secret.
    """
    # Before anything is sent: the two files that hold texts of the user's.
    for name in ("config.json", "README.md"):
        path = Path(folder) / name
        if path.is_file():
            refuse_secrets(path.read_text(encoding="utf-8", errors="replace"), str(path))
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        with published_copy(Path(folder)) as copy:
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=copy,
                commit_message="Upload a reasoner",
                # What another form has left there is not part of this one.
                delete_patterns=["*.json", "*.safetensors", f"{LANGUAGE_MODEL_FOLDER}/*"],
            )
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise ValueError(
            f"could not upload to {repository!r} on the Hugging Face Hub ({first_line(error)}); "
            "`hf auth login` with a token that may write there"
        ) from error
    return commit.commit_url
