"""What every store checks in the same words: keys, metadata, and the bytes that it gives back."""

import re
from collections.abc import Mapping

from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.store.port import KEY_PATTERN, METADATA_MAX_BYTES, ObjectRef

_KEY = re.compile(KEY_PATTERN)
_METADATA_NAME = re.compile(r"[a-z0-9-]+")

#: What an HTTP header gives back as it was sent: printable ASCII, at least one character, no space at the ends.
_METADATA_VALUE = re.compile(r"[!-~]([ -~]*[!-~])?")

#: The name under which a store keeps an object's SHA-256 itself.
SHA256_NAME = "sha256"


def is_key(text: str) -> bool:
    """Whether a text is a key."""
    return _KEY.fullmatch(text) is not None


def check_key(key: str) -> None:
    """Refuse what is no key.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not is_key(key):
        raise ValueError(f"{key!r} is no key: segments of letters, digits, '.', '_', '+' and '-', none hidden")


def check_metadata(metadata: Mapping[str, str]) -> None:
    """Refuse metadata that S3 could not carry.

    Raises
    ------
    ValueError
        If a name or a value is not as the port says, or all are too long.
    """
    for name, value in metadata.items():
        if not _METADATA_NAME.fullmatch(name) or name == SHA256_NAME or not _METADATA_VALUE.fullmatch(value):
            raise ValueError(
                f"metadata {name!r}: the name must be [a-z0-9-]+ (not {SHA256_NAME!r}), "
                "the value printable ASCII without a space at its ends"
            )
    size = sum(len(name) + len(value) for name, value in metadata.items())
    if size > METADATA_MAX_BYTES:
        raise ValueError(f"metadata of {size} bytes: at most {METADATA_MAX_BYTES} fit")


def check_size(ref: ObjectRef, size: int) -> None:
    """Compare a size with the announced one.

    Raises
    ------
    CorruptObject
        If it is another one.
    """
    if size != ref.size:
        raise CorruptObject(
            f"{ref.key} has {size} bytes, announced were {ref.size}.", remedy="Restore the object, then re-drive."
        )


def check_content(ref: ObjectRef, size: int, sha256: str) -> None:
    """Compare size and SHA-256 with the announced ones.

    Raises
    ------
    CorruptObject
        If they are others.
    """
    check_size(ref, size)
    if sha256 != ref.sha256:
        raise CorruptObject(
            f"{ref.key} has SHA-256 {sha256}, announced was {ref.sha256}.", remedy="Restore the object, then re-drive."
        )


def absent(ref: ObjectRef) -> CorruptObject:
    """What is said of an object that is not there."""
    return CorruptObject(f"{ref.key} is not in the store.", remedy="Was it deleted? Restore it, then re-drive.")
