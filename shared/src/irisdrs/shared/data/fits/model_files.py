"""Data models as files."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import asdf
import numpy as np
from stdatamodels import fits_support

from irisdrs.shared.data.fits.hdus import check_size, check_unpacked, opened, readable, written
from irisdrs.shared.data.models import IrisModel, ReferenceModel
from irisdrs.shared.errors import CorruptObject

Model = TypeVar("Model", bound=IrisModel)


def to_bytes(model: Any) -> bytes:
    """Write a model as FITS with checksums: the same content gives the same bytes.

    What would differ is made the same: asdf lists the extensions that it used in the order of a set, its history
    entries carry the time, mappings keep the order in which they were filled, and checksum cards say when. A reference
    has no ASDF extension, which `crds certify` forbids: what it holds is in arrays and keywords.

    Parameters
    ----------
    model : IrisModel
        Its `meta.filename` becomes its product id.

    Notes
    -----
    The tree is laid out twice, which copies no pixels: once to learn which extensions asdf uses, once with their list
    in order.
    """
    model.on_save()
    tree = {name: _in_order(value) if name == "meta" else value for name, value in sorted(model._instance.items())}
    entries = [{"description": entry["description"]} for entry in tree.pop("history", {}).get("entries", [])]
    first = fits_support.to_fits({**tree, "history": {"entries": [*entries]}}, model._schema)
    if isinstance(model, ReferenceModel):
        del first["ASDF"]
        return written(first)
    with asdf.open(io.BytesIO(first["ASDF"].data.tobytes())) as probe:
        used = sorted(probe.tree["history"]["extensions"], key=_extension_key)
    history = {"entries": entries, "extensions": [dict(extension) for extension in used]}
    return written(fits_support.to_fits({**tree, "history": history}, model._schema))


def _extension_key(extension: Mapping[str, Any]) -> tuple[str, str]:
    return extension.get("extension_uri", ""), extension["extension_class"]


def _in_order(node: Any) -> Any:
    """A copy of plain nested mappings with their names sorted; anything else as it is."""
    return {name: _in_order(node[name]) for name in sorted(node)} if type(node) is dict else node


def open_model(source: bytes | Path | str, model_class: type[Model]) -> Model:
    """Open a file as a model, all of it in memory, in the machine's byte order.

    Raises
    ------
    CorruptObject
        If it is cut short, damaged, no FITS file, holds a compressed image, or another model.
    """
    name = f"a {model_class.__name__}"
    with readable(name), opened(source) as (hdus, size):
        check_size(hdus[-1], size)
        check_unpacked(hdus)
        if (held := hdus[0].header.get("DATAMODL")) != model_class.__name__:
            raise CorruptObject(f"The file holds a {held}, expected was {name}")
        model = model_class(hdus)
    for attribute, array in model._instance.items():
        if isinstance(array, np.ndarray) and not array.dtype.isnative and array.dtype.names is None:
            model._instance[attribute] = array.astype(array.dtype.newbyteorder("="))
    if model.meta.filename is None and not isinstance(source, bytes):
        model.meta.filename = Path(source).name
    return model


def model_name(source: bytes | Path | str) -> str:
    """Name of the model that a file holds (DATAMODL).

    Raises
    ------
    CorruptObject
        If it is no FITS file or does not say.
    """
    with readable("a model"), opened(source) as (hdus, _):
        return str(hdus[0].header["DATAMODL"])
