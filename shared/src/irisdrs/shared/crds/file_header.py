"""Read the header of a file as the `crds` client reads it: all its keywords, the first one of a name counts."""

from pathlib import Path

from crds import data_file

from irisdrs.shared.crds.mappings import CRDS_LOCK
from irisdrs.shared.crds.registration import register
from irisdrs.shared.errors import CorruptObject


def read_header(path: Path) -> dict[str, str]:
    """Keywords of a FITS, ASDF or JSON file, with data model paths beside them.

    Raises
    ------
    CorruptObject
        If it cannot be read.
    """
    register()
    with CRDS_LOCK:
        try:
            # Not the cached form, which answers for a path what it held before.
            header: dict[str, str] = data_file.get_free_header.uncached(str(path), (), None, "tmt")
        except Exception as error:
            raise CorruptObject(f"Cannot read the header of {path}: {error}") from error
    return header
