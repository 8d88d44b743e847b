"""Data models of IRIS and their files."""

from pathlib import Path
from typing import Any

from irisdrs.shared.data.fits import model_name, open_model
from irisdrs.shared.data.models import MODELS, IrisModel
from irisdrs.shared.errors import CorruptObject


def open(source: Any, **_: Any) -> Any:  # noqa: A001 - the name that stpipe and stdatamodels use
    """Open a file as the model that it says to hold; a model is given back as it is.

    Raises
    ------
    CorruptObject
        If it is cut short, damaged, no FITS file, or holds no model of IRIS.
    """
    if isinstance(source, IrisModel):
        return source
    file = source if isinstance(source, bytes) else Path(source)
    name = model_name(file)
    if name not in MODELS:
        raise CorruptObject(f"The file holds a {name!r}, which is no data model of IRIS")
    return open_model(file, MODELS[name])
