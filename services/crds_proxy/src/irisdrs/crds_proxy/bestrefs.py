"""Best references from a local CRDS cache, by the rules of the `crds` client, under a pinned context."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from crds.core import utils
from crds.core.exceptions import CrdsError

from irisdrs.crds_proxy.verification import Unusable, VerifiedFile, Verifier
from irisdrs.shared.crds.cache import Cache, context_in_force
from irisdrs.shared.crds.mappings import CRDS_LOCK, load_context
from irisdrs.shared.crds.names import is_reference_name
from irisdrs.shared.crds.parameters import matching_parameters
from irisdrs.shared.errors import Fatal, MissingReference
from irisdrs.shared.references import Reference

#: Answers that are remembered: some 1 kB each, and more questions than a night asks.
_REMEMBERED = 10_000

_DELIVER = "Deliver the missing references to a new context and redo the observation under it."

#: What CRDS chose: reference type -> file name, or why there is none.
Choice = Mapping[str, str]


class PinnedContext:
    """One immutable context: what it matches on, and what it chooses.

    Parameters
    ----------
    cache : Cache
    name : str
        Of a pmap.

    Raises
    ------
    MissingReference
        If the context is absent, damaged, or names files that CRDS cannot have.
    """

    def __init__(self, cache: Cache, name: str) -> None:
        self.name = name
        with CRDS_LOCK:
            try:
                self._pipeline: Any = load_context(cache.mappings, name)
            except Fatal as error:
                raise MissingReference(error.message, remedy=error.remedy) from error
            required = self._pipeline.get_required_parkeys()
        self.keys: tuple[str, ...] = tuple(sorted({key for keys in required.values() for key in keys}))

    def choose(self, parameters: Mapping[str, str], types: Sequence[str]) -> Choice:
        """Ask CRDS, which is not thread-safe: under the lock of this process.

        Returns
        -------
        mapping of type to file name, or to a text that starts with ``NOT FOUND`` and says why
        """
        with CRDS_LOCK:
            try:
                header = utils.condition_header(self._pipeline.minimize_header(dict(parameters)))
                found = self._pipeline.get_best_references(header, include=list(types))
            except (CrdsError, SystemExit) as error:
                return dict.fromkeys(types, f"NOT FOUND {error}")
        return {name: str(found.get(name.lower(), "NOT FOUND omitted by the rules")) for name in types}


class LocalReferences:
    """`References` on a local cache, in this process.

    A context never changes, so the answer to (context, types, values of the keys that the context matches on) is
    remembered; the files are looked at each time.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._files = Verifier(cache)
        self._contexts: dict[str, PinnedContext] = {}
        self._answers: OrderedDict[tuple[str, ...], Choice] = OrderedDict()
        # One thread each for what only one can do at a time: questions that wait hold no thread of the process.
        self._crds = ThreadPoolExecutor(1, thread_name_prefix="iris-crds")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="iris-crds-files")

    async def default_context(self) -> str:
        """Context in force for observations that start now.

        Raises
        ------
        Fatal
            If the cache holds no context.
        """
        context = await asyncio.to_thread(context_in_force, self._cache)
        if context is None:
            raise Fatal(
                f"The CRDS cache {self._cache.root} holds no context.",
                remedy="Build one around reference files, or name another cache.",
            )
        return context

    async def best_references(
        self, header: Mapping[str, str], types: Sequence[str], context: str
    ) -> Mapping[str, Reference]:
        """Best reference of each type; see `irisdrs.shared.references.References`."""
        pinned = self._contexts.get(context)
        if pinned is None:
            pinned = await asyncio.get_running_loop().run_in_executor(self._crds, self._pin, context)
        parameters = matching_parameters(header)
        choice = await self._choose(pinned, parameters, types)
        files = {name: self._files.recall(file) for name, file in choice.items()}
        if any(file is None for file in files.values()):
            files, reasons = await asyncio.get_running_loop().run_in_executor(self._reader, self._verify, choice)
            if reasons:
                raise _missing(pinned, parameters, reasons)
        return {name: Reference(name, choice[name], file.sha256, file.path) for name, file in files.items() if file}

    async def file(self, name: str) -> VerifiedFile:
        """A reference file by its name.

        Raises
        ------
        MissingReference
            If it is absent or damaged, or the name is none of a reference.
        """
        if not is_reference_name(name):
            raise MissingReference(
                f"{name!r} is no name of a reference file.", remedy="They have names such as tmt_iris_dark_0001.fits."
            )
        known = self._files.recall(name)
        if known is not None:
            return known
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, self._files.verify, name)
        except Unusable as error:
            raise MissingReference(f"{error}.", remedy="Restore the file from where the cache came.") from error

    def _pin(self, context: str) -> PinnedContext:
        """Load a context, once for all who wait for it: in the one thread of `_crds`."""
        pinned = self._contexts.get(context)
        if pinned is None:
            pinned = self._contexts[context] = PinnedContext(self._cache, context)
        return pinned

    async def _choose(self, pinned: PinnedContext, parameters: Mapping[str, str], types: Sequence[str]) -> Choice:
        question = (pinned.name, *types, "", *[parameters.get(key, "UNDEFINED") for key in pinned.keys])
        choice = self._answers.get(question)
        if choice is None:
            choice = await asyncio.get_running_loop().run_in_executor(self._crds, pinned.choose, parameters, types)
            self._answers[question] = choice
            if len(self._answers) > _REMEMBERED:
                self._answers.popitem(last=False)
        else:
            self._answers.move_to_end(question)
        return choice

    def _verify(self, choice: Choice) -> tuple[dict[str, VerifiedFile | None], dict[str, str]]:
        """Verify the chosen files; files by type, and reasons by type for those that cannot be had."""
        files: dict[str, VerifiedFile | None] = {}
        reasons: dict[str, str] = {}
        for name, file in choice.items():
            if not is_reference_name(file):
                reasons[name] = file
                continue
            try:
                files[name] = self._files.verify(file)
            except Unusable as error:
                reasons[name] = str(error)
        return files, reasons


def _missing(pinned: PinnedContext, parameters: Mapping[str, str], reasons: Mapping[str, str]) -> MissingReference:
    asked = ", ".join(f"{key.lower()}={parameters[key]}" for key in pinned.keys if key in parameters)
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    matched = [name for name, reason in reasons.items() if not reason.startswith("NOT FOUND")]
    restore = f"Restore the file of {', '.join(matched)} from where the cache came." if matched else ""
    deliver = _DELIVER if len(matched) < len(reasons) else ""
    return MissingReference(
        f"CRDS context {pinned.name} gives no {', '.join(reasons)} for {asked}: {listed}.",
        remedy=f"{restore} {deliver}".strip(),
    )
