"""`iris readout fit`: the same arithmetic from files, without a bus."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from irisdrs.crds_proxy.main import open_references
from irisdrs.readout.calibration import REFERENCE_TYPES
from irisdrs.readout.cli import app
from irisdrs.shared.data.fits import decode_read, encode_read, open_model, read_header
from irisdrs.shared.data.models import RawFrameModel
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.events import ReadWritten


async def _options(bench: Any, tmp_path: Path, crds: Path) -> list[str]:
    header = read_header(tmp_path / "store" / bench.reads[0].object.key)
    found = await open_references(crds).best_references(
        header.crds_parameters(), REFERENCE_TYPES, bench.plan.crds_context
    )
    return [option for kind, one in found.items() for option in (f"--{kind}", str(one.path))]


async def test_fits_files_as_the_service_does(bench: Any, tmp_path: Path, exposure: Any) -> None:
    options = await _options(bench, tmp_path, exposure[2])
    output = tmp_path / "frame.fits"
    result = CliRunner().invoke(
        app, ["fit", str(tmp_path / "store" / "0"), *options, "--output", str(output), "--json"]
    )
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["reads_used"], said["reads_expected"]) == (8, 8)
    handlers = bench.new_handlers().handlers()
    frame = None
    for event in bench.events:
        for answer in await handlers[type(event)](event):
            frame = answer if hasattr(answer, "product_id") else frame
    assert frame is not None
    data = await bench.store.get(frame.object)
    with open_model(output, RawFrameModel) as offline, open_model(data, RawFrameModel) as online:
        for name in ("data", "err", "var_poisson", "var_rnoise", "dq"):
            np.testing.assert_array_equal(np.asarray(getattr(offline, name)), np.asarray(getattr(online, name)))


async def test_says_what_is_wrong_with_what_it_was_given(bench: Any, tmp_path: Path, exposure: Any) -> None:
    options = await _options(bench, tmp_path, exposure[2])
    reads = [str(tmp_path / "store" / event.object.key) for event in bench.events if isinstance(event, ReadWritten)]
    damaged = tmp_path / "damaged.fits"
    damaged.write_bytes(Path(reads[1]).read_bytes()[:3000])
    pixels, header = decode_read(Path(reads[0]).read_bytes(), (64, 64))
    ninth, longer = tmp_path / "ninth.fits", tmp_path / "longer.fits"
    ninth.write_bytes(encode_read(pixels, header.model_copy(update={"read": 9})))
    longer.write_bytes(encode_read(pixels, header.model_copy(update={"read": 4, "reads": 9})))
    (tmp_path / "empty").mkdir()
    for given, error, words in (
        ([reads[0], reads[0]], Fatal, "and another file is too"),
        ([reads[0], str(ninth)], Fatal, "is read 9 of 4"),
        ([reads[0], str(longer)], Fatal, "of another window or sampling"),
        ([str(tmp_path / "empty")], Fatal, "no FITS file"),
        ([reads[0], str(damaged)], CorruptObject, "Cannot read the read"),
    ):
        result = CliRunner().invoke(app, ["fit", *given, *options, "--output", str(tmp_path / "never.fits")])
        assert isinstance(result.exception, error)
        assert words in str(result.exception)
        assert not (tmp_path / "never.fits").exists()
    assert CliRunner().invoke(app, ["fit", reads[0]]).exit_code == 2
