"""The same events give the same catalogue, in any order and any number."""

import itertools
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from irisdrs.archive.catalogue.arrival import Arrival
from irisdrs.archive.catalogue.engine import Catalogue, open_catalogue
from irisdrs.archive.catalogue.observations import State, record_exposure
from irisdrs.archive.catalogue.tables import Artifact, Exposure, Header, Product
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.identifiers import Detector

if TYPE_CHECKING:
    from tests.archive.conftest import Builder, Content, NewCatalogue, Put, States


def _night(build: "Builder") -> list[Arrival]:
    """Two exposures; read 2 of the first has two contents; a sky frame is used by both images."""
    sky = build.exposure(35, kind="SKY")
    raw, better, sky_raw = build.raw(4), build.raw(3, "v2"), build.raw(4, exposure=sky)
    return [
        build.read(1),
        build.read(2),
        build.read(2, "other"),
        build.read(1, exposure=sky),
        raw,
        better,
        sky_raw,
        build.image(4, [raw, sky_raw]),
        build.image(3, [better, sky_raw], "v2"),
    ]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_and_any_repetition_give_the_same_catalogue(
    new_catalogue: "NewCatalogue", put: "Put", content: "Content", build: "Builder", data: st.DataObject
) -> None:
    events = _night(build)
    expected, found = new_catalogue(), new_catalogue()
    put(expected, *events)
    order = data.draw(st.permutations([*range(len(events)), *data.draw(st.lists(st.integers(0, len(events) - 1)))]))
    put(found, *(events[i] for i in order))
    assert content(found) == content(expected)


def test_the_same_event_twice_is_one_row(catalogue: Catalogue, put: "Put", build: "Builder") -> None:
    first, second = put(catalogue, build.read(1), build.read(1))
    assert first == second
    with catalogue.read() as session:
        counts = [session.scalar(select(func.count()).select_from(table)) for table in (Artifact, Product, Header)]
    assert counts == [1, 1, 1]


def test_more_reads_win_then_the_greater_job_hash(
    new_catalogue: "NewCatalogue", put: "Put", states: "States", build: "Builder"
) -> None:
    few, many, as_many = build.raw(3), build.raw(4, "v2"), build.raw(4, "v3")
    winner = max(many, as_many, key=lambda a: a.version)
    for order in itertools.permutations([few, many, as_many]):
        catalogue = new_catalogue()
        put(catalogue, *order)
        current = [version for (_, version), state in states(catalogue).items() if state == "current"]
        assert current == [winner.version]


def test_a_read_with_two_contents_spoils_all_that_is_made_of_it(
    new_catalogue: "NewCatalogue", put: "Put", states: "States", build: "Builder"
) -> None:
    one, other = build.read(2), build.read(2, "other")
    raw = build.raw(4)
    sky_raw = build.raw(4, exposure=build.exposure(35, kind="SKY"))
    image = build.image(4, [raw, sky_raw])
    neighbour = build.image(4, [sky_raw, raw])
    for order in itertools.islice(itertools.permutations([one, other, raw, image, neighbour]), 0, None, 7):
        catalogue = new_catalogue()
        put(catalogue, sky_raw, *order)
        found = states(catalogue)
        spoiled = {(a.product_id, a.version) for a in (one, other, raw, image, neighbour)}
        assert {key for key, state in found.items() if state == "conflict"} == spoiled
        assert found[sky_raw.product_id, sky_raw.version] == "current"


def test_a_frame_without_the_conflicting_read_is_current(
    catalogue: Catalogue, put: "Put", states: "States", build: "Builder"
) -> None:
    spoiled, clean = build.raw(4), build.raw(3, "v2")
    put(catalogue, spoiled, build.read(2), build.read(2, "other"), clean)
    found = states(catalogue)
    assert found[spoiled.product_id, spoiled.version] == "conflict"
    assert found[clean.product_id, clean.version] == "current"


def test_the_same_read_of_another_detector_is_no_conflict(
    catalogue: Catalogue, put: "Put", states: "States", build: "Builder"
) -> None:
    put(catalogue, build.read(2), build.read(2, exposure=build.exposure(detector=Detector.IMG2)))
    assert set(states(catalogue).values()) == {"current"}


def test_one_version_under_two_keys_is_refused_and_nothing_is_written(
    catalogue: Catalogue, put: "Put", content: "Content", build: "Builder"
) -> None:
    first = build.raw(4)
    put(catalogue, first)
    before = content(catalogue)
    moved = replace(first, object=first.object.model_copy(update={"key": "1/elsewhere.fits"}))
    with pytest.raises(CorruptObject, match="catalogued as"):
        put(catalogue, moved)
    assert content(catalogue) == before


def test_two_writers_at_once_give_every_row_once(
    catalogue: Catalogue,
    put: "Put",
    states: "States",
    content: "Content",
    new_catalogue: "NewCatalogue",
    build: "Builder",
) -> None:
    events = [build.read(n) for n in range(1, 21)] + [build.read(7, "other"), build.raw(4)]
    second = open_catalogue(str(catalogue.engine.url))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda pair: put(pair[0], *pair[1]), [(catalogue, events), (second, events[::-1])]))
    second.close()
    expected = new_catalogue()
    put(expected, *events)
    assert content(catalogue) == content(expected)
    assert Path(str(catalogue.engine.url.database)).exists()


def test_states_of_exposures_only_advance(new_catalogue: "NewCatalogue", build: "Builder") -> None:
    for order in itertools.permutations([State.PLANNED, State.STARTED, State.ENDED]):
        catalogue = new_catalogue()
        for state in order:
            with catalogue.write() as session:
                record_exposure(session, build.exposure(), state)
        with catalogue.read() as session:
            assert session.scalars(select(Exposure.state)).all() == ["ended"]


@pytest.mark.parametrize("gone", [("artifact",), ("product",), ("header",), ("provenance",), ("artifact", "header")])
def test_rows_that_have_gone_come_back_with_the_next_announcement(
    catalogue: Catalogue, put: "Put", content: "Content", build: "Builder", gone: tuple[str, ...]
) -> None:
    events = [build.read(1), raw := build.raw(4), build.image(4, [raw])]
    put(catalogue, *events)
    before = content(catalogue)
    delete_rows(catalogue, *gone)
    put(catalogue, *events)
    assert content(catalogue) == before


@pytest.mark.parametrize("gone", ["artifact", "product"])
def test_the_number_of_a_row_that_has_gone_may_be_given_out_again(
    catalogue: Catalogue, new_catalogue: "NewCatalogue", put: "Put", content: "Content", build: "Builder", gone: str
) -> None:
    raw, other_raw = build.raw(4), build.raw(4, exposure=build.exposure(35))
    image, other = build.image(4, [raw]), build.image(4, [other_raw])
    put(catalogue, raw, other_raw, image)
    delete_rows(catalogue, gone, last=True)
    put(catalogue, other, image, other)
    expected = new_catalogue()
    put(expected, raw, other_raw, image, other)
    assert content(catalogue) == content(expected)


def delete_rows(catalogue: Catalogue, *tables: str, last: bool = False) -> None:
    """Delete rows as somebody with a database tool would: nothing is checked."""
    number = {"artifact": "id", "product": "id"}
    with sqlite3.connect(str(catalogue.engine.url.database)) as connection:
        for table in tables:
            which = f" WHERE {number[table]} = (SELECT max({number[table]}) FROM {table})" if last else ""
            connection.execute(f"DELETE FROM {table}{which}")
    connection.close()
