"""The files of a reasoner folder: regular ones, and all within it."""

from pathlib import Path

_MAX_FILES = 10_000


def check_files(folder: Path) -> None:
    """Make sure that what lies in ``folder`` are files and folders of its own.

    The cache of the Hugging Face Hub has its files in ``blobs``, beside the ``snapshots`` that link
    to them: such links stay within the repository.

    Raises:
        ValueError: A link leads out of the folder or nowhere, or there is a pipe or a device, which
            would be waited for.
    """
    resolved = folder.resolve()
    inside = resolved.parent.parent if resolved.parent.name == "snapshots" else resolved
    waiting, seen = [folder], 0
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            seen += 1
            name = path.relative_to(folder).as_posix()
            if seen > _MAX_FILES:
                raise ValueError(f"{str(folder)!r} holds more than {_MAX_FILES:,} files")
            if path.is_symlink():
                try:
                    target = path.resolve(strict=True)
                except (OSError, RuntimeError) as error:  # it leads nowhere, or round in a circle
                    raise ValueError(
                        f"{str(folder)!r}: {name} is a link that leads to no file; copy it again"
                    ) from error
                if not target.is_relative_to(inside):
                    raise ValueError(
                        f"{str(folder)!r}: {name} is a link to {str(target)!r}, out of the folder; "
                        "put the file itself there"
                    )
            if path.is_dir():
                if not path.is_symlink():  # a link may lead round in a circle
                    waiting.append(path)
            elif not path.is_file():
                raise ValueError(
                    f"{str(folder)!r}: {name} is neither a file nor a folder; copy it again"
                )
