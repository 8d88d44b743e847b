"""What a product is made of, as hashes: the same job gives the same key.

`inputs hash` says *of what*: the recipe and the (role, SHA-256) pairs of its inputs.
`job hash` says *exactly how*: it adds parameters, references, CRDS context and software.
"""

import functools
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


def inputs_hash(recipe: str, inputs: Iterable[tuple[str, str]]) -> str:
    """SHA-256 (hex) over the recipe's name and the sorted (role, SHA-256) pairs of its inputs."""
    return _digest([recipe, sorted(inputs)])


@dataclass(frozen=True, slots=True)
class Job:
    """All that decides the bytes of a product.

    Attributes
    ----------
    recipe : str
        Name of what is done, e.g. ``readout.utr``.
    inputs : tuple of (role, SHA-256)
    parameters : mapping of str to JSON values
    references : mapping of reference type to (file name, SHA-256)
    context : str
        CRDS context under which the references were chosen, e.g. ``tmt_0001.pmap``.
    software : str
        From `software_version`.
    """

    recipe: str
    inputs: tuple[tuple[str, str], ...]
    context: str
    software: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    references: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def inputs_hash(self) -> str:
        """SHA-256 (hex) of recipe and inputs."""
        return inputs_hash(self.recipe, self.inputs)

    @property
    def job_hash(self) -> str:
        """SHA-256 (hex) of everything."""
        return _digest(
            [
                self.recipe,
                sorted(self.inputs),
                dict(self.parameters),
                {k: list(v) for k, v in self.references.items()},
                self.context,
                self.software,
            ]
        )


@functools.cache
def software_version() -> str:
    """Our version, and a hash of every installed distribution and the Python version: ``0.1.0+3f9a0c51d2e4``."""
    ours = importlib.metadata.version("irisdrs-shared")
    installed = sorted({f"{d.name.lower()}=={d.version}" for d in importlib.metadata.distributions() if d.name})
    return f"{ours}+{_digest([installed, platform.python_version()])[:12]}"


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
