"""Words of the first TMT cache, of before there was one vocabulary, and what they are called now."""

from collections.abc import Mapping

from irisdrs.shared.crds.reference_types import SAMPLING
from irisdrs.shared.identifiers import Detector, Subarray

#: Detectors; the `crds` client itself substitutes them when it inserts a reference (``substitutions.dat``).
DETECTORS: Mapping[str, str] = {f"IRIS{number}": Detector(f"IMG{number}") for number in (1, 2, 3, 4)}

#: Reference types.
TYPES: Mapping[str, str] = {
    "linearity": "nonlincoeff",
    "nonlin": "nonlincoeff",
    "rdnoise": "readnoise",
    "slicetrace": "trace",
    "wave": "wavecal",
}

#: Keys of mappings, by data model path.
KEYS: Mapping[str, str] = {"META.EXPOSURE.READPATT": SAMPLING}

#: Subarrays.
SUBARRAYS: Mapping[str, str] = {"CUSTOM": Subarray.SUB_ARRAY, "FULL_FRAME": Subarray.FULL, "GENERIC": "N/A"}

#: Sampling modes.
SAMPLINGS: Mapping[str, str] = {"MDS": "MCDS"}
