"""Query parameters to a typed filter."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import Query
from pydantic import ValidationError

from irisdrs.archive.api.problems import Problem
from irisdrs.archive.catalogue.selection import Cone, Cursor, ProductFilter
from irisdrs.shared.identifiers import Detector, ExposureType


def product_filter(
    observation: Annotated[str | None, Query(description="Observation id, such as 2034B-007-123")] = None,
    exposure: Annotated[int | None, Query(description="Exposure number", ge=0, le=9999)] = None,
    detector: Annotated[Detector | None, Query(description="Detector")] = None,
    level: Annotated[int | None, Query(description="0 read, 1 raw frame, 2 reduced, 3 combined", ge=0, le=3)] = None,
    exposure_type: Annotated[ExposureType | None, Query(alias="type", description="Exposure type")] = None,
    kind: Annotated[str | None, Query(description="Kind of product: read, raw, image")] = None,
    since: Annotated[datetime | None, Query(description="Last photon at or after (ISO 8601; no zone: UTC)")] = None,
    until: Annotated[datetime | None, Query(description="Last photon before (ISO 8601; no zone: UTC)")] = None,
    cone: Annotated[str | None, Query(description="RA,DEC,RADIUS in degrees, ICRS: footprints that overlap")] = None,
    all_versions: Annotated[bool, Query(description="Superseded and conflicting versions too")] = False,
) -> ProductFilter:
    """Filter of a request.

    Raises
    ------
    Problem
        If a parameter cannot be.
    """
    try:
        return ProductFilter(
            observation=observation,
            exposure=exposure,
            exposure_type=exposure_type,
            detector=detector,
            level=level,
            kind=kind,
            since=since,
            until=until,
            cone=None if cone is None else Cone.parse(cone),
            all_versions=all_versions,
        )
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, problems, "See /api/docs for names and ranges.") from error
    except ValueError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), "A cone is RA,DEC,RADIUS in degrees.") from error


def page_cursor(
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before", max_length=400)] = None,
) -> Cursor | None:
    """Place to go on from. Raises `Problem` if the text is no cursor."""
    try:
        return None if cursor is None else Cursor.decode(cursor)
    except ValueError as error:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, str(error), "Give the next_cursor of a page unchanged, or leave it out."
        ) from error
