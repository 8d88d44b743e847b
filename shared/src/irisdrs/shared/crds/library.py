"""References for the command line: files given by hand, else what CRDS chooses from a cache on disk."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import crds
from crds.core import utils

from irisdrs.shared.crds.cache import Cache, context_in_force
from irisdrs.shared.crds.mappings import CRDS_LOCK, load_context
from irisdrs.shared.crds.names import is_reference_name
from irisdrs.shared.crds.registration import OBSERVATORY, client_environment, register
from irisdrs.shared.errors import MissingReference

#: What the header names as the CRDS context when every reference was given by hand.
NO_CONTEXT = "NONE"


@dataclass(frozen=True, slots=True)
class Library:
    """Where references come from.

    Attributes
    ----------
    overrides : mapping of reference type to Path
        Files given by hand; they go before CRDS.
    cache : Path, optional
        CRDS cache (CRDS_PATH) for all other types.
    context : str, optional
        CRDS context; without it the one in force in the cache.
    """

    overrides: Mapping[str, Path]
    cache: Path | None = None
    context: str | None = None

    def choose(self, parameters: Mapping[str, str], types: Sequence[str]) -> tuple[dict[str, Path], str]:
        """Best reference of each type for CRDS matching parameters, and the context they were chosen under.

        Raises
        ------
        MissingReference
            If a type has neither override nor match; names all of them.
        Fatal
            If the context is damaged, or names what is no file of the cache.
        """
        wanted = [kind for kind in types if kind not in self.overrides]
        if not wanted:
            return dict(self.overrides), NO_CONTEXT
        if self.cache is None:
            raise MissingReference(
                f"No reference is given for {', '.join(wanted)}.",
                remedy="Give a file for each, or a CRDS cache with --crds-path.",
            )
        found, context = _ask_crds(self.cache, self.context, parameters, wanted)
        return {**self.overrides, **found}, context


def _ask_crds(
    cache: Path, context: str | None, parameters: Mapping[str, str], wanted: list[str]
) -> tuple[dict[str, Path], str]:
    register()
    context = context or context_in_force(Cache(cache.absolute()))
    if context is None:
        raise MissingReference(f"The CRDS cache {cache} holds no context.", remedy="Name another with --crds-path.")
    load_context(Cache(cache.absolute()).mappings, context)  # the client itself hands out whatever a mapping names
    header = {name.upper(): value for name, value in parameters.items()}
    asked = {"reftypes": wanted, "context": context, "observatory": OBSERVATORY}
    try:
        with CRDS_LOCK, _environment(client_environment(cache)), _nothing_remembered():
            _check_here(Cache(cache.absolute()), context, crds.getrecommendations(header, **asked))
            answers = crds.getreferences(header, **asked)
    except MissingReference:
        raise
    except (Exception, SystemExit) as error:
        raise MissingReference(
            f"CRDS cannot choose {', '.join(wanted)} under {context}: {error}",
            remedy="Look at --crds-path and --context, or give files of your own.",
        ) from error
    missing = [kind for kind in wanted if not Path(answers[kind]).is_file()]
    if missing:
        raise MissingReference(
            f"{context} knows no {', '.join(missing)} for this configuration: {dict(parameters)}.",
            remedy="Give files of your own for them.",
        )
    return {kind: Path(answers[kind]) for kind in wanted}, context


def _check_here(cache: Cache, context: str, chosen: Mapping[str, str]) -> None:
    """Refuse what is chosen and is no file of the cache: the client would look for a server."""
    absent = [name for name in chosen.values() if is_reference_name(name) and not cache.path(name).is_file()]
    if absent:
        raise MissingReference(
            f"{context} chooses {', '.join(absent)}, which is not in the cache {cache.root}.",
            remedy="`iris crds missing PLAN` brings what was delivered elsewhere; or give files of your own.",
        )


@contextmanager
def _nothing_remembered() -> Iterator[None]:
    """What the client remembers of mappings has their names only: another cache may have others of the same names."""
    utils.clear_function_caches()
    try:
        yield
    finally:
        utils.clear_function_caches()


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Environment variables, the only way to tell the CRDS client its cache, for as long as they are needed."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
