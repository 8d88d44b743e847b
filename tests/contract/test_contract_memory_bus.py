"""The memory bus keeps the bus's contract."""

from collections.abc import AsyncIterator

import pytest

from irisdrs.shared.bus.memory import MemoryBus, fits
from irisdrs.shared.testing.bus_contract import BusContract


class TestMemoryBus(BusContract):
    @pytest.fixture
    async def bus(self) -> AsyncIterator[MemoryBus]:
        bus = MemoryBus()
        yield bus
        bus.close()


@pytest.mark.parametrize(
    ("binding", "routing", "expected"),
    [
        ("iris.a.b", "iris.a.b", True),
        ("iris.a.*", "iris.a.b", True),
        ("iris.a.*", "iris.a", False),
        ("iris.a.*", "iris.a.b.c", False),
        ("iris.#", "iris", True),
        ("iris.#", "iris.a.b.c", True),
        ("#.c", "iris.a.b.c", True),
        ("#.c", "iris.a.b.d", False),
    ],
)
def test_binding_keys_fit_as_in_a_topic_exchange(binding: str, routing: str, expected: bool) -> None:
    assert fits(binding, routing) is expected
