"""What the `crds` client does for a delivery, in a process of its own: describe, derive, certify.

The client is not thread-safe, and its first certification takes seconds: real-time questions must not wait for it.
Its own `certify` judges every reference and every mapping. The mappings are written by `irisdrs.shared.crds.mappings`,
not by the client's `refactoring`, which cannot begin a type that has no mapping yet, takes a mapping of a wrong
checksum, answers from headers that it read before, and reports what goes wrong to its log only.
"""

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crds.core import log, utils

from irisdrs.shared.crds import mappings, register
from irisdrs.shared.crds.cache import Cache, FileFacts, facts_of
from irisdrs.shared.crds.context import insert, next_name, put_in_force
from irisdrs.shared.crds.description import Description, describe_reference
from irisdrs.shared.crds.file_header import read_header
from irisdrs.shared.crds.registration import client_environment
from irisdrs.shared.errors import IrisError

#: What the client's certification must not do: rewrite mappings under fixed names of the folder for temporary files,
#: look at mappings below (each is named), parse mappings that we wrote once more in seconds for double lines.
_LEFT_OUT = ("--dont-check-rmap-updates", "--dont-recurse-mappings", "--dont-parse")

#: Keys up to which the client judges a mapping: it compares each with each, 20 s for 1,200 of them. What it looks for,
#: an overlap, was refused before, and the values are those of references that it judges.
JUDGED_KEYS = 500


@dataclass(frozen=True, slots=True)
class Derived:
    """A context that derives from another one, written into a folder.

    Attributes
    ----------
    context : str
        Name of its pmap.
    mappings : mapping of str to FileFacts
        Those that are new.
    spared : collection of str
        Those that the client need not judge: of types that have no reference yet, and of more than `JUDGED_KEYS` keys.
    """

    context: str
    mappings: Mapping[str, FileFacts]
    spared: Collection[str]


def describe(paths: Sequence[Path]) -> list[Description | str]:
    """Where references stand in the mappings of their types by their headers, or why they stand nowhere."""
    return [_describe(path) for path in paths]


def derive(
    staging: Cache, parent: str | None, references: Mapping[str, Description], taken: Collection[str]
) -> Derived | None:
    """Write a context that chooses more references beside its parent; None if that chooses the same already.

    Parameters
    ----------
    staging : Cache
        With the mappings of the parent.
    parent : str, optional
    references : mapping of str to Description
        By their names in CRDS.
    taken : collection of str
        Names that new mappings cannot have.

    Raises
    ------
    Overlap
        If a reference would match equally well as another one.
    Fatal
        If the parent is damaged, or is of an older vocabulary.
    """
    register()
    before = set(os.listdir(staging.mappings))  # noqa: PTH208  (names, not paths)
    written: list[str] = []

    def name_for(prefix: str, suffix: str) -> str:
        written.append(next_name({*taken, *before}, prefix, suffix))
        return written[-1]

    context = insert(staging.mappings, parent, list(references.items()), name_for)
    if context is None:
        return None
    pipeline = mappings.load_context(staging.mappings, context)
    put_in_force(staging, context, pipeline.mapping_names())
    facts = {name: facts_of(staging.mappings / name) for name in written}
    chosen = mappings.reference_mappings(pipeline).values()
    return Derived(context, facts, {one.basename for one in chosen if not 0 < len(one.selector.keys()) <= JUDGED_KEYS})


def certify(staging: Cache, context: str, names: Sequence[str]) -> dict[str, list[str]]:
    """What `crds certify` says against files of a cache, by name; those without a mistake are not in it.

    Parameters
    ----------
    staging : Cache
    context : str
        Under which they are judged; it has a mapping for each of their types.
    names : sequence of str
        References and mappings.
    """
    register()
    os.environ.update(client_environment(staging.root))
    utils.clear_function_caches()
    problems = {name: _certify(staging.path(name), context) for name in names}
    return {name: said for name, said in problems.items() if said}


def _describe(path: Path) -> Description | str:
    try:
        return describe_reference(path, read_header(path))
    except IrisError as error:
        return error.message


def _certify(path: Path, context: str) -> list[str]:
    from crds.certify.certify import CertifyScript  # noqa: PLC0415 - takes a second, in this process only

    said: list[str] = []
    handler = _Errors(said)
    log.reset()
    logging.getLogger("CRDS").addHandler(handler)
    try:
        arguments = ["crds.certify", f"--comparison-context={context}", *_LEFT_OUT, str(path)]
        errors = CertifyScript(arguments)()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it trips over is its verdict
        return [*said, f"crds certify: {error!r}"]
    finally:
        logging.getLogger("CRDS").removeHandler(handler)
    return said or ([f"crds certify counts {errors} mistakes"] if errors else [])


class _Errors(logging.Handler):
    """Keeps what the client reports as an error, without what it puts before it."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().partition("::")[2].split() or record.getMessage().split())
        if text not in self._said:
            self._said.append(text)
