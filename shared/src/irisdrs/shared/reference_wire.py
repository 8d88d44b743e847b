"""What `crds_proxy` and its clients say to each other over HTTP: questions, answers, problems, and where to ask."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from irisdrs.shared.crds.names import is_context_name, is_reference_name

#: GET: the `ContextInForce`.
CONTEXT_PATH = "/references/context"

#: POST a `Question`: a list of `FoundReference`.
BEST_PATH = "/references/best"

#: GET, followed by ``/`` and the name of a reference: its bytes.
FILES_PATH = "/references/files"

#: Largest question, bytes: the header of a frame with all its history has some 20 kB.
MAX_QUESTION_BYTES = 256 * 1024

#: Mistakes of a body that are told.
_TOLD = 10


def _context_name(name: str) -> str:
    if not is_context_name(name):
        raise ValueError("no name of a CRDS context")
    return name


def _reference_name(name: str) -> str:
    if not is_reference_name(name):
        raise ValueError("no name of a reference file")
    return name


class Question(BaseModel):
    """Which references for this header?"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context: str = Field(description="CRDS context, e.g. tmt_0001.pmap")
    types: tuple[str, ...] = Field(description="Reference types, e.g. dark")
    header: dict[str, str] = Field(description="FITS keywords or data model paths, with their values as text")


class FoundReference(BaseModel):
    """The best reference of one type."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(description="Reference type, as it was asked for")
    name: Annotated[str, AfterValidator(_reference_name)] = Field(description="File name, e.g. tmt_iris_dark_0001.fits")
    sha256: str = Field(description="SHA-256 of the file, hex", pattern="^[0-9a-f]{64}$")
    size: int = Field(description="Size of the file, bytes", ge=0)


#: The answer to a `Question`: one entry for each type.
FOUND_REFERENCES = TypeAdapter(list[FoundReference])


class ContextInForce(BaseModel):
    """The context for observations that start now."""

    model_config = ConfigDict(frozen=True)

    context: Annotated[str, AfterValidator(_context_name)] = Field(description="e.g. tmt_0001.pmap")


class Problem(BaseModel):
    """The body of every answer that is no success."""

    model_config = ConfigDict(frozen=True)

    error_class: str = Field(
        description="Class in irisdrs.shared.errors; another word where the request was no question"
    )
    message: str = Field(description="What happened")
    remedy: str = Field(description="What a person may do about it")


def mistakes(error: ValidationError) -> str:
    """What is wrong with a body, in one line."""
    found = [f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in error.errors(include_input=False)]
    return "; ".join(found[:_TOLD])
