"""The cases. One is a function that runs beside its night and lets something happen to it.

A new one: write the function below, say in `case` what people must know, run ``make chaos CASE=its-name``.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.chaos import faults
from tests.chaos.arena import JOB_TIMEOUT_S, Setting
from tests.chaos.performance import Act, Case, Performance

from irisdrs.shared.bus.port import Parked
from irisdrs.shared.bus.topology import ARCHIVE, CALIBRATE_REALTIME, readout_queue
from irisdrs.shared.events import ReadWritten, decode
from irisdrs.shared.identifiers import Detector, ReadId

CASES: list[Case] = []

#: How long a broker may take, seconds: connections, elections, subscriptions.
BROKER_S = 60.0

#: How long reconciliation may take to find what nobody was told, seconds: it looks every minute.
HEALED_S = 120.0


def case(injected: str, **more: Any) -> Callable[[Act], Act]:
    """Make a function a case: its name is the function's with hyphens."""

    def add(act: Act) -> Act:
        CASES.append(Case(act.__name__.replace("_", "-"), injected, act, **more))
        return act

    return add


@case("nothing")
async def calm(night: Performance) -> None:
    """What the others are measured against."""


# Slower than the others: two cores that start killed services again have no time for a frame each second as well.
@case("kill -9 of a random service every 20 s through 200 exposures", exposures=50, pace_s=0.5)
async def random_kills(night: Performance) -> None:
    await faults.kill_now_and_then(night, 20.0)


@case("SIGTERM to every service, one after the other", exposures=8)
async def rolling_restart(night: Performance) -> None:
    await night.reached(0.1)
    await faults.restart_in_order(night)


@case("the broker's node is killed, and starts again after 10 s", recovery_s=BROKER_S)
async def broker_killed(night: Performance) -> None:
    await night.reached(0.3)
    await faults.broker_killed(night)


@case("the broker is restarted in order", recovery_s=BROKER_S)
async def broker_restarted(night: Performance) -> None:
    await night.reached(0.3)
    await faults.broker_restarted(night)


@case("all connections to the broker are reset, five times", recovery_s=BROKER_S)
async def connections_cut(night: Performance) -> None:
    for share in (0.1, 0.25, 0.4, 0.55, 0.7):
        await night.reached(share)
        async with night.fault():
            night.observatory.broker_line.cut()


@case("connections to the broker are half-open for 30 s", recovery_s=BROKER_S)
async def connections_half_open(night: Performance) -> None:
    await night.reached(0.3)
    async with night.fault():
        night.observatory.broker_line.half_open()
        await asyncio.sleep(30.0)
        night.observatory.broker_line.heal()


@case("every byte from and to the broker comes 0.3 s late for 20 s", recovery_s=BROKER_S)
async def broker_slow(night: Performance) -> None:
    await night.reached(0.2)
    async with night.fault():
        night.observatory.broker_line.delay(0.3)
        await asyncio.sleep(20.0)
        night.observatory.broker_line.heal()


@case("the store is away for a minute")
async def store_away(night: Performance) -> None:
    await night.reached(0.3)
    await faults.store_away(night, 60.0)


@case("the store answers 503 to 30% of all requests for 30 s, to a third of them after it has carried them out")
async def store_fails(night: Performance) -> None:
    await night.reached(0.2)
    await faults.store_fails(night, 0.2, 0.1, 30.0)


@case("every byte from and to the store comes 0.5 s late for 20 s")
async def store_slow(night: Performance) -> None:
    line = night.observatory.store_line
    assert line is not None
    await night.reached(0.2)
    async with night.fault():
        line.delay(0.5)
        await asyncio.sleep(20.0)
        line.heal()


@case("a job of calibrate ends with a segmentation fault")
async def job_segfaults(night: Performance) -> None:
    await night.reached(0.3)
    await faults.job_ends_as(night, "segfault")


@case("a job of calibrate takes all the memory that it gets")
async def job_fills_memory(night: Performance) -> None:
    await night.reached(0.3)
    await faults.job_ends_as(night, "memory")


@case(
    "a job of calibrate hangs",
    note=f"the fault counts until the limit of a job ends it, {JOB_TIMEOUT_S:.0f} s here and 120 s by default",
)
async def job_hangs(night: Performance) -> None:
    await night.reached(0.3)
    await faults.job_ends_as(night, "hang", JOB_TIMEOUT_S)


@case("the server cancels consumers: idle queues of readout, calibrate and archive are deleted", recovery_s=BROKER_S)
async def consumers_cancelled(night: Performance) -> None:
    await night.reached(0.4)
    async with night.held():
        await faults.queue_deleted(night, readout_queue(Detector.IMG1), CALIBRATE_REALTIME, ARCHIVE)


@case("queues of readout, calibrate and archive are deleted with what is in them", recovery_s=HEALED_S)
async def queues_deleted(night: Performance) -> None:
    for share, name in ((0.3, readout_queue(Detector.IMG2)), (0.5, CALIBRATE_REALTIME), (0.7, ARCHIVE)):
        await night.reached(share)
        await faults.queue_deleted(night, name)


@case("every event of the edge comes three times, shuffled within 20")
async def edge_tells_thrice(night: Performance) -> None:
    faults.tripled(night, 20)


@case("every message on the bus is sent twice more")
async def bus_tells_thrice(night: Performance) -> None:
    republishing = asyncio.create_task(faults.republish_everything(night, 2))
    await night.reached(1.0)
    await asyncio.sleep(5.0)  # what the services make of the last events
    republishing.cancel()


@case("50 damaged FITS files: cut short, one bit turned, empty", exposures=8)
async def damaged_files(night: Performance) -> None:
    faults.damage_reads(night, 50)
    spoilt = night.account.spoilt
    night.parked_at_least = len(spoilt)
    night.blame = lambda one: one.reason.error_class == "CorruptObject" and _read_in(one) in spoilt
    night.check = lambda rows: _unflagged(rows, spoilt)


@case("1,000 messages that are malformed or of a future version")
async def malformed_messages(night: Performance) -> None:
    night.parked_at_least = 1000
    night.blame = lambda one: one.reason.error_class == "BadMessage"
    await night.reached(0.1)
    async with night.fault():
        for key, message in faults.malformed(night, 1000):
            await night.arena.stage.bus.publish(key, message, mandatory=True)


@case("the clock of archive and of one readout is 5 minutes ahead, that of the detectors 5 minutes behind")
async def clocks_differ(night: Performance) -> None:
    night.clock = lambda: datetime.now(UTC) - timedelta(minutes=5)
    async with faults.clock_ahead(night, 300, "archive", "readout-IMG2"):
        await night.reached(1.0)


@case("20 random events are never sent", recovery_s=HEALED_S)
async def events_suppressed(night: Performance) -> None:
    faults.suppress(night, 20)


@case("20 random rows vanish from the catalogue", recovery_s=HEALED_S)
async def rows_deleted(night: Performance) -> None:
    await night.complete()
    async with night.fault():
        await asyncio.to_thread(faults.delete_rows, night, 20)


@case("the store's disk is full for 20 s", setting=Setting.DIRECTORY)
async def store_full(night: Performance) -> None:
    await night.reached(0.3)
    await faults.disk_full(night, "store", 20.0)


@case("the disk of the edge's spool is full for 20 s", setting=Setting.DIRECTORY)
async def spool_full(night: Performance) -> None:
    await night.reached(0.3)
    await faults.disk_full(night, "spool", 20.0)


@case(
    "the node that leads the queues is killed, and comes back after 20 s", setting=Setting.CLUSTER, recovery_s=BROKER_S
)
async def leader_killed(night: Performance) -> None:
    await night.reached(0.3)
    await faults.leader_killed(night, ARCHIVE, 20.0)


@case("every message of the edge is of the version before or of the one after, in turn")
async def versions_mixed(night: Performance) -> None:
    faults.mix_versions(night)


def _read_in(parked: Parked) -> str | None:
    """Id of the read that a parked event announces."""
    event = decode(parked.body)[1]
    return str(ReadId(event.exposure_id, event.ramp, event.read)) if isinstance(event, ReadWritten) else None


def _unflagged(rows: Sequence[Mapping[str, object]], spoilt: set[str]) -> list[str]:
    """Raw frames that do not say how many reads they were made of."""
    damaged = Counter(str(ReadId.parse(name).exposure) for name in spoilt)
    found = []
    for row in rows:
        left_out = int(str(row["reads_expected"])) - int(str(row["reads_used"]))
        expected = damaged[str(row["product_id"])[: -len("-L1-raw")]]
        if left_out != expected:
            found.append(f"{row['product_id']} says that {left_out} reads were left out, {expected} are damaged")
    return found


def chosen(names: str) -> list[Case]:
    """The cases with these names, all without any; grouped by their setting.

    Raises
    ------
    SystemExit
        If there is none of a name.
    """
    wanted = [name for name in names.split(",") if name]
    unknown = set(wanted) - {one.name for one in CASES}
    if unknown:
        raise SystemExit(f"No case {', '.join(sorted(unknown))}. There are: {', '.join(one.name for one in CASES)}.")
    found = [one for one in CASES if not wanted or one.name in wanted]
    return sorted(found, key=lambda one: list(Setting).index(one.setting))
