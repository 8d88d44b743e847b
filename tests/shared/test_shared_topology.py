"""The topology: one table, and what is made of it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from irisdrs.shared.bus import declarations
from irisdrs.shared.bus.picture import as_facts, picture
from irisdrs.shared.bus.topology import (
    CONSUMER_TIMEOUT_S,
    HOLD_S,
    PRODUCERS,
    QUEUES,
    RECIRCULATE_S,
    RETRY_DELAYS_S,
    RETRY_STAGES,
    Queue,
    binding_key,
)
from irisdrs.shared.cli import app
from irisdrs.shared.events.registry import EVENT_TYPES

README = Path(__file__).parents[2] / "README.md"


def test_every_event_has_its_tellers() -> None:
    assert set(PRODUCERS) == set(EVENT_TYPES.values())


def test_no_two_events_share_a_routing_key() -> None:
    keys = [binding_key(kind) for kind in EVENT_TYPES.values()]
    assert len(set(keys)) == len(keys)


def test_what_is_mandatory_and_told_by_this_version_has_a_queue() -> None:
    taken = {kind for queue in QUEUES for kind in queue.takes}
    not_told_yet = {"ProductCombined"}
    assert {kind.__name__ for kind in EVENT_TYPES.values() if kind.mandatory and kind not in taken} == not_told_yet


@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_the_broker_waits_longer_than_any_handler_and_any_hold(queue: Queue) -> None:
    assert HOLD_S + queue.hard_timeout_s < CONSUMER_TIMEOUT_S


def test_every_delay_has_its_retry_queue() -> None:
    for delay_s in (*RETRY_DELAYS_S, RECIRCULATE_S):
        assert delay_s in RETRY_STAGES.values()
        stage = QUEUES[0].retry(delay_s).rpartition(".")[2]
        assert RETRY_STAGES[stage] == delay_s


def test_every_binding_leads_to_a_declared_queue() -> None:
    made = declarations.definitions()
    queues = {queue["name"] for queue in made["queues"]}
    exchanges = {exchange["name"] for exchange in made["exchanges"]}
    assert {binding["destination"] for binding in made["bindings"]} <= queues
    assert {binding["source"] for binding in made["bindings"]} == exchanges
    targets = {queue["arguments"].get("x-dead-letter-routing-key", queue["name"]) for queue in made["queues"]}
    assert targets <= queues


def test_the_readme_shows_the_picture_of_the_table() -> None:
    assert f"```mermaid\n{picture()}\n```" in README.read_text(encoding="utf-8")


def test_the_command_shows_table_json_and_definitions() -> None:
    shown = CliRunner().invoke(app, ["topology"], env={"COLUMNS": "80"}).output
    assert "…" not in shown  # nothing is cut off on the narrowest terminal
    assert "ReadWritten" in shown
    assert "calibrate.realtime" in shown
    assert json.loads(CliRunner().invoke(app, ["topology", "--json"]).output) == as_facts()
    assert json.loads(CliRunner().invoke(app, ["topology", "--definitions"]).output) == declarations.definitions()


def test_checking_without_a_broker_says_what_to_set() -> None:
    result = CliRunner().invoke(app, ["topology", "--check"], env={"IRIS_AMQP_URL": None})
    assert "Set IRIS_AMQP_URL" in str(result.exception)
