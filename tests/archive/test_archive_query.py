"""Filters, cones and pages against brute force."""

import itertools
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.coordinates import angular_separation

from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.catalogue.ingest import record
from irisdrs.archive.catalogue.query import find
from irisdrs.archive.catalogue.selection import Cone, Cursor, ProductFilter
from irisdrs.archive.footprint import Circle, cell_ranges, footprint
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.instrument import detector_axis_offset_arcsec

if TYPE_CHECKING:
    from tests.archive.conftest import Builder, Put

VERIFIED = datetime(2034, 8, 2, tzinfo=UTC)


def _ids(catalogue: Catalogue, limit: int = 1000, **wanted: object) -> list[str]:
    with catalogue.read() as session:
        return [row.product_id for row in find(session, ProductFilter(**wanted), limit=limit).products]


@pytest.fixture(params=[1.0, 0.001], ids=["footprints of degrees", "footprints of arcseconds"])
def sky(request: pytest.FixtureRequest, catalogue: Catalogue, build: "Builder") -> dict[str, Circle]:
    """300 products over the whole sky, dense at both poles and at RA 0; radii from 0 to 3 degrees, or arcseconds."""
    random = np.random.default_rng(7)
    ra = np.concatenate([random.uniform(0, 360, 200), random.normal(0, 1, 100) % 360])
    dec = np.degrees(np.arcsin(random.uniform(-1, 1, 300)))
    dec[:40], dec[40:80] = 90 - random.exponential(1, 40), -90 + random.exponential(1, 40)
    dec[200:] = random.normal(0, 1, 100)
    ra[0], dec[0], ra[1], dec[1] = 0.0, 90.0, 123.0, -90.0
    radius = request.param * random.choice([0.0, 0.002, 0.5, 3.0], 300, p=[0.2, 0.5, 0.2, 0.1])
    circles = [Circle(float(a), float(d), float(r)) for a, d, r in zip(ra, dec, radius, strict=True)]
    arrivals = [build.at(number, circle) for number, circle in enumerate(circles)]
    with catalogue.write() as session:
        for arrival in arrivals:
            record(session, arrival, VERIFIED)
    return {a.product_id: circle for a, circle in zip(arrivals, circles, strict=True)}


def _cones() -> list[tuple[float, float, float]]:
    random = np.random.default_rng(8)
    named = [(0, 90, 0.5), (200, -90, 2), (0, 0, 0), (360, 0, 1.5), (359.9, 0.2, 0.7), (10, 89.5, 1.2), (5, 5, 90)]
    wide = [(50, 20, 61.0), (123, -90, 0.0)]
    drawn = zip(
        random.uniform(0, 360, 40),
        np.degrees(np.arcsin(random.uniform(-1, 1, 40))),
        random.choice([0.001, 0.3, 4.0, 25.0], 40),
        strict=True,
    )
    return [*named, *wide, *((float(a), float(b), float(c)) for a, b, c in drawn)]


def test_cones_agree_with_brute_force(catalogue: Catalogue, sky: dict[str, Circle]) -> None:
    found_some = 0
    for ra, dec, radius in _cones():
        expected = set()
        for product_id, circle in sky.items():
            place = (math.radians(v) for v in (ra, dec, circle.ra_deg, circle.dec_deg))
            if math.degrees(angular_separation(*place)) <= radius + circle.radius_deg:
                expected.add(product_id)
        assert set(_ids(catalogue, cone=Cone(ra_deg=ra, dec_deg=dec, radius_deg=radius))) == expected, (ra, dec, radius)
        found_some += bool(expected)
    assert found_some > 15


def test_a_product_without_a_place_is_in_no_cone(catalogue: Catalogue, put: "Put", build: "Builder") -> None:
    put(catalogue, build.at(1, None))
    assert _ids(catalogue) != []
    assert _ids(catalogue, cone=Cone(ra_deg=0, dec_deg=0, radius_deg=90)) == []


def test_cell_ranges_stay_few() -> None:
    for radius in (1e-9, 1e-3, 0.1, 1.0, 10.0, 59.0):
        ranges = cell_ranges(40.0, 30.0, radius) or []
        assert 1 <= len(ranges) <= 60
        assert all(a[1] < b[0] for a, b in itertools.pairwise(ranges))


def test_footprints_from_wcs_and_from_pointing_agree() -> None:
    shape, detector, angle = (1024, 1024), Detector.IMG2, 30.0
    x, y = detector_axis_offset_arcsec(detector, shape)
    scale, turn = 0.004 / 3600, math.radians(angle)
    cards = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 0.001,
        "CRVAL2": 60.0,
        "CUNIT1": "deg",
        "CUNIT2": "deg",
    }
    cards |= {"CRPIX1": 512.5 - x / 0.004, "CRPIX2": 512.5 - y / 0.004}
    cards |= {"CD1_1": -scale * math.cos(turn), "CD1_2": scale * math.sin(turn)}
    cards |= {"CD2_1": scale * math.sin(turn), "CD2_2": scale * math.cos(turn)}
    by_wcs = footprint(cards, shape, detector)
    by_pointing = footprint({"RA": 0.001, "DEC": 60.0, "PA": angle, "IFSSCALE": 0.004}, shape, detector)
    assert by_wcs is not None
    assert by_pointing is not None
    place = (math.radians(v) for v in (by_wcs.ra_deg, by_wcs.dec_deg, by_pointing.ra_deg, by_pointing.dec_deg))
    assert math.degrees(angular_separation(*place)) * 3600 < 1e-4
    assert by_wcs.radius_deg == pytest.approx(by_pointing.radius_deg, rel=1e-6)
    assert by_wcs.radius_deg * 3600 == pytest.approx(512 * math.sqrt(2) * 0.004, rel=1e-6)


def test_no_position_no_footprint() -> None:
    assert footprint({"RA": 1.0, "DEC": 2.0, "PA": 0.0}, (8, 8), Detector.IMG1) is None


def test_every_filter_selects_what_it_says(catalogue: Catalogue, put: "Put", build: "Builder") -> None:
    raw, sky_read = build.raw(4), build.read(1, exposure=build.exposure(35, Detector.IMG3, "SKY"))
    old = build.raw(3, "old")
    image = build.image(4, [raw], minutes=10)
    put(catalogue, raw, sky_read, old, image)
    every = {raw.product_id, sky_read.product_id, image.product_id}
    assert set(_ids(catalogue)) == every
    assert _ids(catalogue, level=2) == [image.product_id]
    assert _ids(catalogue, kind="raw") == [raw.product_id]
    assert _ids(catalogue, kind="raw", all_versions=True) == [raw.product_id] * 2
    assert _ids(catalogue, detector="IMG3") == [sky_read.product_id]
    assert _ids(catalogue, exposure_type="SKY") == [sky_read.product_id]
    assert _ids(catalogue, exposure=35) == [sky_read.product_id]
    assert set(_ids(catalogue, observation="2034B-007-123")) == every
    assert _ids(catalogue, observation="2034B-007-124") == []
    assert _ids(catalogue, since=image.photons_end) == [image.product_id]
    assert set(_ids(catalogue, until=image.photons_end)) == every - {image.product_id}
    assert _ids(catalogue, since=image.photons_end.replace(tzinfo=None)) == [image.product_id]
    assert _ids(catalogue, since=image.photons_end + timedelta(microseconds=1)) == []


def test_pages_join_to_the_whole_and_do_not_move(catalogue: Catalogue, put: "Put", build: "Builder") -> None:
    put(catalogue, *(build.at(n, None, minutes=n // 4) for n in range(0, 40, 2)))
    whole, seen, cursor = _ids(catalogue), [], None
    for added in range(1, 100, 2):
        with catalogue.read() as session:
            page = find(session, ProductFilter(), limit=3, cursor=cursor)
        assert len(page.products) <= 3
        seen += [row.product_id for row in page.products]
        if page.next_cursor is None:
            break
        cursor = Cursor.decode(page.next_cursor)
        put(catalogue, build.at(added, None, minutes=0))  # somewhere before what comes next: must move nothing
    assert [product_id for product_id in seen if product_id in set(whole)] == whole
    assert len(seen) == len(set(seen))


def test_the_count_is_of_all_rows(catalogue: Catalogue, put: "Put", build: "Builder") -> None:
    put(catalogue, *(build.at(n, None) for n in range(5)))
    with catalogue.read() as session:
        page = find(session, ProductFilter(), limit=2)
    assert (page.total, len(page.products)) == (5, 2)


@pytest.mark.parametrize("text", ["", "abc", "!!!", "W10", "WzEsMiwzXQ", "bnVsbA"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no cursor"):
        Cursor.decode(text)


@pytest.mark.parametrize("text", ["1,2", "1,2,3,4", "a,b,c", "1,91,1", "nan,0,1", "0,0,-1", "0,0,91"])
def test_what_is_no_cone_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Cone.parse(text)


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_is_none_in_utc_is_refused(time: str) -> None:
    with pytest.raises(ValueError, match="outside of the years"):
        ProductFilter(since=time)
