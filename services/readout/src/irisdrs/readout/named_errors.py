"""Errors that say which file they are about: the readers of FITS know bytes, people know names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irisdrs.shared.errors import Fatal


@contextmanager
def about(path: Path, remedy: str = "Is it the right file?") -> Iterator[None]:
    """Put a file's name before whatever is wrong with it, and a remedy behind it if it has none."""
    try:
        yield
    except Fatal as error:
        raise type(error)(f"{path}: {error.message.rstrip('.')}.", remedy=error.remedy or remedy) from error
