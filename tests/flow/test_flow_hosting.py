"""What a host refuses before it touches anything."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from irisdrs.shared.embedded import run
from irisdrs.shared.errors import Fatal
from irisdrs.shared.store.port import ObjectRef
from irisdrs.simulator.cli import app


async def test_a_second_host_on_the_same_data_is_refused_and_the_first_goes_on(playground: Any) -> None:
    async with playground() as ground:
        working = ground.system.platform.scratch / "in-use"
        working.touch()
        with pytest.raises(Fatal, match="Another process runs the system"):
            async with run(ground.system.settings):
                pass
        assert working.exists()


@pytest.mark.parametrize("key", ["../catalogue.sqlite", "/etc/passwd", "a/../b", "", ".hidden"])
def test_no_event_names_an_object_outside_of_the_store(key: str) -> None:
    with pytest.raises(ValidationError):
        ObjectRef(key=key, sha256="0" * 64, size=1)


@pytest.mark.parametrize("wrong", [("--size", "65"), ("--observation", "../x"), ("--filter", "none")])
def test_wrong_arguments_are_said_to_be_wrong(tmp_path: Path, wrong: tuple[str, str]) -> None:
    result = CliRunner().invoke(app, ["plan", "--data", str(tmp_path), *wrong])
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []
