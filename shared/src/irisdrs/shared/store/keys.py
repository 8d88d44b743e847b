"""Keys of objects in the store: computed from what an object is, never from user text.

- read: ``0/2034/08/01/{observation}/{type}0-{number}/{detector}/{ramp:04}/{read:05}-{sha256[:16]}.fits``
- facts of an exposure, beside its reads: ``started.json``, ``ended.json``, ``aborted.json``,
  ``failed-{ramp:04}-{read:05}.json``
- product: ``{level}/2034/08/01/{observation}/{product}/{inputs hash[:16]}-{job hash[:16]}.fits``
- preview of an exposure that is read out: ``previews/2034/08/01/{observation}/{type}0-{number}/{detector}/``
  ``{reads:05}-{inputs hash[:16]}.png``: nothing needs it later
- facts of an observation: ``observations/2034-08-01/{observation}.json``, and ``{observation}.ended.json`` beside it
"""

from datetime import date

from irisdrs.shared.identifiers import ExposureId, ProductId

#: Prefix of the facts of all observations.
OBSERVATIONS = "observations/"


def observation_key(night: date, observation: str) -> str:
    """Key of an observation's facts."""
    return f"{OBSERVATIONS}{night.isoformat()}/{observation}.json"


def observation_ended_key(night: date, observation: str) -> str:
    """Key of the fact that an observation has ended."""
    return f"{OBSERVATIONS}{night.isoformat()}/{observation}.ended.json"


def night_prefix(night: date, level: int) -> str:
    """Prefix of all objects of a night at one calibration level."""
    return f"{level}/{night:%Y/%m/%d}/"


def exposure_prefix(night: date, exposure: ExposureId) -> str:
    """Prefix of all objects that belong to one exposure of one detector."""
    return f"0/{night:%Y/%m/%d}/{exposure.observation}/{exposure.type}0-{exposure.number:04d}/{exposure.detector}/"


def ramp_prefix(night: date, exposure: ExposureId, ramp: int) -> str:
    """Prefix of the reads of one ramp (ramps count from 1)."""
    return f"{exposure_prefix(night, exposure)}{ramp:04d}/"


def read_key(night: date, exposure: ExposureId, ramp: int, read: int, sha256: str) -> str:
    """Key of one read (ramps and reads count from 1)."""
    return f"{ramp_prefix(night, exposure, ramp)}{read:05d}-{sha256[:16]}.fits"


def fact_key(night: date, exposure: ExposureId, fact: str) -> str:
    """Key of one fact of an exposure: ``started``, ``ended``, ``aborted`` or ``failed-{ramp:04}-{read:05}``."""
    return f"{exposure_prefix(night, exposure)}{fact}.json"


def product_prefix(night: date, product: ProductId) -> str:
    """Prefix of all versions of one product."""
    return f"{product.level}/{night:%Y/%m/%d}/{product.exposure.observation}/{product}/"


def version_prefix(night: date, product: ProductId, inputs_hash: str) -> str:
    """Prefix of the versions of a product that were made of the same inputs."""
    return f"{product_prefix(night, product)}{inputs_hash[:16]}-"


def product_key(night: date, product: ProductId, inputs_hash: str, job_hash: str) -> str:
    """Key of one version of a product."""
    return f"{version_prefix(night, product, inputs_hash)}{job_hash[:16]}.fits"


def preview_key(night: date, exposure: ExposureId, reads: int, inputs_hash: str) -> str:
    """Key of a picture of the first reads of an exposure."""
    return f"previews/{exposure_prefix(night, exposure).removeprefix('0/')}{reads:05d}-{inputs_hash[:16]}.png"
