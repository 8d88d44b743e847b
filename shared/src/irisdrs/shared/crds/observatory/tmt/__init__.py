"""The observatory package ``crds.tmt`` of the CRDS client: which instruments and reference types TMT has.

The client imports it as `crds.tmt` once `irisdrs.shared.crds.register` was called. Names and shapes of what is in it
are the client's (model: `crds.tobs`).
"""

from pathlib import Path

from crds.core import reftypes

HERE = str(Path(__file__).parent)

TYPES = reftypes.from_package_file("tmt", __file__)
OBSERVATORY = TYPES.observatory
INSTRUMENTS = TYPES.instruments
EXTENSIONS = TYPES.extensions
TEXT_DESCR = TYPES.text_descr
FILEKINDS = TYPES.filekinds

INSTRUMENT_FIXERS: dict[str, str] = {}
TYPE_FIXERS: dict[str, str] = {}

PROVENANCE_KEYWORDS = ("META.DESCRIPTION", "META.PEDIGREE", "META.USEAFTER", "META.HISTORY", "META.AUTHOR")
USEAFTER_KEYWORDS = ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME")
DEFAULT_SELECTORS = ("Match", "UseAfter")
