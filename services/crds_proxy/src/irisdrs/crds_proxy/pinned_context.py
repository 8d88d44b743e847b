"""One immutable context, loaded: what it matches on, and what the CRDS client chooses by it."""

import gc
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from crds.core import utils
from crds.core.exceptions import CrdsError

from irisdrs.crds_proxy.match_index import quicken
from irisdrs.shared.crds.mappings import CRDS_LOCK, load_context, reference_mappings
from irisdrs.shared.errors import Fatal, MissingReference

#: What CRDS chose: reference type -> file name, or ``NOT FOUND`` and why. The rules may omit a type.
Choice = Mapping[str, str]

#: References from which on a context is kept out of the garbage collection, which would take 0.3 s each time.
_MANY = 2_000


class Unanswerable(Exception):
    """The context has no answer for this header, whatever the type; the text says why."""


class PinnedContext:
    """A context.

    Parameters
    ----------
    folder : Path
        Of the mappings, all of which are there.
    name : str
        Of a pmap.
    loaded : mutable mapping of str to crds.core.rmap.ReferenceMapping
        Reference mappings of other contexts, by name: contexts share most of theirs. Its own are added.

    Attributes
    ----------
    required : mapping of str to list of str
        Keys that are matched, by instrument.
    keys : tuple of str
        All of them, in upper case, however mappings spell them.
    mappings, references : tuple of str
        Names of all files that belong to it.

    Raises
    ------
    MissingReference
        If the context is damaged, or names files that CRDS cannot have.
    """

    def __init__(self, folder: Path, name: str, loaded: MutableMapping[str, Any]) -> None:
        self.name = name
        with CRDS_LOCK:
            utils.clear_function_caches()  # the client never forgets a mapping, whether or not somebody needs it
            try:
                self._pipeline: Any = load_context(folder, name, loaded)
            except Fatal as error:
                raise MissingReference(error.message, remedy=error.remedy) from error
            for mapping in reference_mappings(self._pipeline).values():
                if mapping.basename not in loaded:
                    quicken(mapping)
                    loaded[mapping.basename] = mapping
            # As the client's own function, which remembers every context that it was asked for.
            self.required: Mapping[str, list[str]] = {
                instrument: [*self._pipeline.parkey, *imap.get_required_parkeys()]
                for instrument, imap in self._pipeline.selections.normal_items()
            }
            self.mappings = tuple(self._pipeline.mapping_names())
            self.references = tuple(self._pipeline.reference_names())
        self.keys: tuple[str, ...] = tuple(sorted({key.upper() for keys in self.required.values() for key in keys}))
        if len(self.references) >= _MANY:
            gc.collect()
            gc.freeze()

    def choose(self, parameters: Mapping[str, str], types: Sequence[str] | None) -> Choice:
        """Ask CRDS, which is not thread-safe: under the lock of this process.

        Parameters
        ----------
        parameters : mapping
            As `matching_parameters` gives them.
        types : sequence of str, optional
            In lower case. None: all that the context knows.

        Raises
        ------
        Unanswerable
            If the header names no instrument, or one that the context does not know.
        """
        if types is not None and not types:
            return {}  # the client would take it for all of them
        with CRDS_LOCK:
            try:
                header = utils.condition_header(self._pipeline.minimize_header(dict(parameters)))
                found = self._pipeline.get_best_references(header, include=types)
            except (CrdsError, SystemExit) as error:
                raise Unanswerable(str(error)) from error
        return {name: str(file) for name, file in found.items()}
