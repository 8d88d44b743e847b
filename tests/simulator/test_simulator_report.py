"""What the report of a night counts."""

from datetime import timedelta

from irisdrs.shared.contract.examples import EXAMPLES
from irisdrs.shared.events import FrameReady, FrameReduced, decode, encode
from irisdrs.simulator.report import Latencies


def test_a_frame_that_is_told_again_keeps_the_latency_of_its_first_telling() -> None:
    """Reconciliation tells again what the archive was late to take."""
    latencies = Latencies()
    for event in EXAMPLES:
        envelope, _ = decode(encode(event, "/iris/drs/readout"))
        for late_s in (5.0, 60.0):
            end = getattr(event, "photons_end", envelope.time)
            latencies.note(envelope.model_copy(update={"time": end + timedelta(seconds=late_s)}), event)
    frames = [{e.product_id for e in EXAMPLES if isinstance(e, kind)} for kind in (FrameReady, FrameReduced)]
    assert [latencies.frame_ready, latencies.reduced] == [dict.fromkeys(ids, 5.0) for ids in frames]
    assert all(frames)
