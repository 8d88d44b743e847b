"""Best references from a local CRDS cache, by the rules of the `crds` client, under a pinned context."""

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from irisdrs.crds_proxy.figures import Figures
from irisdrs.crds_proxy.holdings import Arriving, Holdings
from irisdrs.crds_proxy.pinned_context import Choice, PinnedContext, Unanswerable
from irisdrs.crds_proxy.verification import Unusable, VerifiedFile, Verifier
from irisdrs.shared.crds.mappings import names_below, reference_names
from irisdrs.shared.crds.names import is_context_name, is_reference_name
from irisdrs.shared.crds.parameters import matching_parameters
from irisdrs.shared.errors import Fatal, MissingReference
from irisdrs.shared.references import Reference

#: Answers that are remembered: some 1 kB each, and more questions than a night asks.
_REMEMBERED = 10_000

#: Contexts that are kept loaded: more than are asked for in a night, each of some 10 MB.
_KEPT_CONTEXTS = 16

_DELIVER = "Deliver the missing references to a new context and redo the observation under it."

#: Longest question that is remembered, letters: honest ones have some hundred.
_LONGEST = 4_000

#: Context, types (None: all), values of the keys.
_Question = tuple[str, tuple[str, ...] | None, tuple[str, ...]]


class LocalReferences:
    """`References` on what an observatory has published, in this process.

    A context never changes, so the answer to (context, types, values of the keys that the context matches on) is
    remembered; the files are looked at each time.

    Parameters
    ----------
    holdings : Holdings
        Brings what is not in the local cache.
    files : Verifier
        Of that cache.
    """

    def __init__(self, holdings: Holdings, files: Verifier) -> None:
        self.holdings = holdings
        self.figures = Figures()
        self._files = files
        self._contexts: OrderedDict[str, PinnedContext] = OrderedDict()
        self._rules: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self._loading: dict[str, asyncio.Task[PinnedContext]] = {}
        self._answers: OrderedDict[_Question, Choice] = OrderedDict()
        # One thread each for what only one can do at a time: questions that wait hold no thread of the process.
        self._crds = ThreadPoolExecutor(1, thread_name_prefix="iris-crds")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="iris-crds-check")

    async def close(self) -> None:
        """Give up what is being fetched, and connections."""
        await self.holdings.close()

    async def default_context(self) -> str:
        """Context in force for observations that start now.

        Raises
        ------
        Fatal
            If none was ever published.
        """
        context = (await self.holdings.catalogue()).context
        if context is None:
            raise Fatal(
                f"The observatory holds no context of CRDS (cache: {self._files.cache.root}).",
                remedy="Deliver references, or name another cache.",
            )
        return context

    async def best_references(
        self, header: Mapping[str, str], types: Sequence[str], context: str
    ) -> Mapping[str, Reference]:
        """Best reference of each type; see `irisdrs.shared.references.References`."""
        pinned = self._recall_context(context) or await self._pinned(context)
        parameters = matching_parameters(header)
        otherwise = "NOT FOUND omitted by the rules"
        try:
            found = await self._choose(pinned, parameters, types)
        except Unanswerable as error:
            found, otherwise = {}, f"NOT FOUND {error}"
        choice = {name: found.get(name.lower(), otherwise) for name in types}
        files = {name: self._files.recall(file) for name, file in choice.items()}
        if any(file is None for file in files.values()):
            files, problems = await self._bring(choice)
            if problems:
                raise _missing(pinned, parameters, problems)
        return {name: Reference(name, choice[name], file.sha256, file.path) for name, file in files.items() if file}

    async def choose(self, header: Mapping[str, str], types: Sequence[str] | None, context: str) -> Choice:
        """What CRDS chooses, by name: no file is needed.

        Parameters
        ----------
        header : mapping
            FITS keywords or data model paths.
        types : sequence of str, optional
            None: all that the context knows.
        context : str
            Of a pmap.

        Raises
        ------
        MissingReference
            If the context is unknown or damaged.
        Unanswerable
            If it does not know the header's instrument.
        """
        pinned = self._recall_context(context) or await self._pinned(context)
        return await self._choose(pinned, matching_parameters(header), types)

    async def required_keys(self, context: str) -> Mapping[str, list[str]]:
        """What a context matches on, by instrument.

        Raises
        ------
        MissingReference
            If the context is unknown or damaged.
        """
        return (self._recall_context(context) or await self._pinned(context)).required

    async def mapping_names(self, mapping: str) -> Sequence[str]:
        """Names of a mapping and of all below it.

        Raises
        ------
        MissingReference
            If a mapping is unknown or damaged.
        """
        if is_context_name(mapping):
            return (self._recall_context(mapping) or await self._pinned(mapping)).mappings
        return sorted(await self._bring_mappings(mapping))

    async def reference_names(self, mapping: str) -> Sequence[str]:
        """Names of all references that a mapping may choose; raises as `mapping_names` does."""
        if is_context_name(mapping):
            return (self._recall_context(mapping) or await self._pinned(mapping)).references
        below = [name for name in await self._bring_mappings(mapping) if name.endswith(".rmap")]
        folder, loop = self._files.cache.mappings, asyncio.get_running_loop()
        found = [await loop.run_in_executor(self._crds, reference_names, folder, name) for name in below]
        return sorted({name for names in found for name in names})

    async def file(self, name: str) -> VerifiedFile:
        """A reference file by its name.

        Raises
        ------
        MissingReference
            If it is absent or damaged, or the name is none of a reference.
        Outage
            If it is not in the local cache, and cannot be brought now.
        """
        _check_reference_name(name)
        return await self.published(name)

    async def arriving(self, name: str) -> Arriving | None:
        """A reference that is on its way, or has to come; None when it is here. Raises as `file` does."""
        _check_reference_name(name)
        return None if self._files.recall(name) is not None else await self.holdings.arriving(name)

    async def published(self, name: str) -> VerifiedFile:
        """A mapping or reference by its name; raises as `file` does."""
        known = self._files.recall(name)
        if known is not None:
            return known
        await self.holdings.local(name)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, self._files.verify, name)
        except Unusable as error:
            raise MissingReference(f"{error}.", remedy="It vanished just now: ask again.") from error

    def _recall_context(self, context: str) -> PinnedContext | None:
        pinned = self._contexts.get(context)
        if pinned is not None:
            self._contexts.move_to_end(context)
        return pinned

    async def _pinned(self, context: str) -> PinnedContext:
        """Load a context, once for all who wait for it."""
        task = self._loading.get(context)
        if task is None:
            task = self._loading[context] = asyncio.create_task(self._load(context), name=f"load {context[:40]}")
            task.add_done_callback(lambda _: self._loading.pop(context))
        return await asyncio.shield(task)  # who gives up does not take it away from the others

    async def _load(self, context: str) -> PinnedContext:
        if not is_context_name(context):
            raise MissingReference(
                f"{context!r} is no name of a CRDS context.", remedy="Contexts have names such as tmt_0001.pmap."
            )
        await self._bring_mappings(context)
        loop, folder = asyncio.get_running_loop(), self._files.cache.mappings
        pinned = await loop.run_in_executor(self._crds, PinnedContext, folder, context, self._rules)
        self._contexts[context] = pinned
        if len(self._contexts) > _KEPT_CONTEXTS:
            self._contexts.popitem(last=False)
        return pinned

    async def _bring_mappings(self, name: str) -> set[str]:
        """Bring a mapping and all below it, and give their names."""
        try:
            return await self._bring_below(name)
        except Fatal as error:
            raise MissingReference(
                f"CRDS context {name} is not to be had: {error.message}", remedy=error.remedy
            ) from error

    async def _bring_below(self, name: str) -> set[str]:
        path = await self.holdings.local(name)
        # What a mapping names is known once it is here.
        below = await asyncio.get_running_loop().run_in_executor(self._crds, names_below, path.parent, name)
        return {name}.union(*await asyncio.gather(*(self._bring_below(each) for each in below)))

    async def _choose(
        self, pinned: PinnedContext, parameters: Mapping[str, str], types: Sequence[str] | None
    ) -> Choice:
        asked = None if types is None else tuple(name.lower() for name in types)
        values = tuple(parameters.get(key, "UNDEFINED") for key in pinned.keys)
        question = (pinned.name, asked, values)
        choice = self._answers.get(question)
        if choice is not None:
            self._answers.move_to_end(question)
            self.figures.choices.labels("remembered").inc()
            return choice
        self.figures.choices.labels("new").inc()
        choice = await asyncio.get_running_loop().run_in_executor(self._crds, pinned.choose, parameters, asked)
        if sum(map(len, (*(asked or ()), *values))) <= _LONGEST:
            self._answers[question] = choice
            if len(self._answers) > _REMEMBERED:
                self._answers.popitem(last=False)
        return choice

    async def _bring(self, choice: Choice) -> tuple[dict[str, VerifiedFile | None], dict[str, MissingReference | str]]:
        """Bring the chosen files; files by type, and problems by type for those that cannot be had."""
        files: dict[str, VerifiedFile | None] = {}
        problems: dict[str, MissingReference | str] = {}
        for name, file in choice.items():
            if not is_reference_name(file):
                problems[name] = file
                continue
            try:
                files[name] = await self.published(file)
            except MissingReference as error:
                problems[name] = error
        return files, problems


def _check_reference_name(name: str) -> None:
    if not is_reference_name(name):
        raise MissingReference(
            f"{name!r} is no name of a reference file.", remedy="They have names such as tmt_iris_dark_0001.fits."
        )


def _missing(
    pinned: PinnedContext, parameters: Mapping[str, str], problems: Mapping[str, MissingReference | str]
) -> MissingReference:
    asked = ", ".join(f"{key.lower()}={parameters[key]}" for key in pinned.keys if key in parameters)
    reasons = {name: one if isinstance(one, str) else one.message.removesuffix(".") for name, one in problems.items()}
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    matched = [name for name, problem in problems.items() if not isinstance(problem, str)]
    restore = f"Restore the file of {', '.join(matched)} from where the cache came." if matched else ""
    deliver = _DELIVER if len(matched) < len(problems) else ""
    return MissingReference(
        f"CRDS context {pinned.name} gives no {', '.join(problems)} for {asked}: {listed}.",
        remedy=f"{restore} {deliver}".strip(),
    )
