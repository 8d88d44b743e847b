"""The one rule for names of CRDS files, at every entrance and for every name inside a mapping.

The client itself accepts names with folders (``../../x``, ``/etc/passwd``) in mappings and hands them out as paths.
"""

import re

_NAME = re.compile(r"[a-z0-9_]{1,120}\.(?:fits|asdf|json|pmap|imap|rmap)", re.ASCII)
MAPPING_SUFFIXES = (".pmap", ".imap", ".rmap")


def is_safe_name(name: str) -> bool:
    """Whether a name can be that of a reference or mapping: lower-case letters, digits, underscores, known suffix."""
    return _NAME.fullmatch(name) is not None


def is_context_name(name: str) -> bool:
    """Whether a name can be that of a context, e.g. ``tmt_0001.pmap``."""
    return is_safe_name(name) and name.endswith(".pmap")


def is_mapping_name(name: str) -> bool:
    """Whether a name can be that of a mapping, e.g. ``tmt_iris_0001.imap``."""
    return is_safe_name(name) and name.endswith(MAPPING_SUFFIXES)


def is_reference_name(name: str) -> bool:
    """Whether a name can be that of a reference file, e.g. ``tmt_iris_dark_0001.fits``."""
    return is_safe_name(name) and not name.endswith(MAPPING_SUFFIXES)
