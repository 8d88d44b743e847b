"""What the report of a night counts."""

import io
import json
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from irisdrs.shared.contract.examples import EXAMPLES
from irisdrs.shared.events import FrameReady, FrameReduced, decode, encode
from irisdrs.simulator.ledger import Verdict
from irisdrs.simulator.report import Latencies, Report


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


def test_a_night_without_a_star_says_so_and_is_not_good(tmp_path: Path) -> None:
    report = Report(Verdict(found=(), lost=(), duplicated=()), Latencies(), {})
    said = io.StringIO()
    report.show(Console(file=said, width=200), [])
    report.write(tmp_path / "report.json")
    assert not report.good
    assert "no star could be measured" in said.getvalue()
    assert json.loads((tmp_path / "report.json").read_text())["photometry_error_median"] is None
