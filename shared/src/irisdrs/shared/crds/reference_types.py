"""The table of reference types: which parameters choose a reference of each type.

It is the type specification that the `crds` client itself reads (``observatory/tmt/specs/combined_specs.json``), so a
new type is one entry there.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SPECS = Path(__file__).parent / "observatory" / "tmt" / "specs" / "combined_specs.json"


@dataclass(frozen=True, slots=True)
class ReferenceType:
    """One type of reference.

    Attributes
    ----------
    name : str
        Lower case, e.g. ``dark``; equals REFTYPE in the files.
    keys : tuple of str
        Data model paths that are matched, upper case.
    time_keys : tuple of str
        Data model paths of the time that is compared with USEAFTER.
    description : str
    """

    name: str
    keys: tuple[str, ...]
    time_keys: tuple[str, ...]
    description: str


@functools.cache
def reference_types() -> Mapping[str, ReferenceType]:
    """All reference types of IRIS, by name."""
    specs = json.loads(_SPECS.read_text())["iris"]
    return {
        name: ReferenceType(name, tuple(spec["parkey"][0]), tuple(spec["parkey"][1]), spec["text_descr"])
        for name, spec in specs.items()
    }
