"""The process of the crds client is one at a time, ends with its parent, and is replaced when it is stuck or dead."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from irisdrs.crds_proxy.delivery.process import CrdsProcess
from irisdrs.shared.errors import Fatal, Retryable

_PARENT = """
import asyncio, os, time
from irisdrs.crds_proxy.delivery.process import CrdsProcess

async def main():
    print(await CrdsProcess().call(os.getpid), flush=True)
    await asyncio.sleep(60)

if __name__ == "__main__":
    asyncio.run(main())
"""


def refuse(text: str) -> None:
    raise Fatal(text, remedy="None.")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(30.0):
        while alive(pid):
            await asyncio.sleep(0.05)


async def test_it_is_kept_gives_errors_back_and_ends_when_closed() -> None:
    process = CrdsProcess()
    pid = await process.call(os.getpid)
    with pytest.raises(Fatal, match="no dark") as raised:
        await process.call(refuse, "no dark")
    assert raised.value.remedy == "None."
    assert await process.call(os.getpid) == pid != os.getpid()
    await process.close()
    await until_gone(pid)


async def test_one_that_is_stuck_or_dies_is_replaced() -> None:
    process = CrdsProcess()
    pid = await process.call(os.getpid)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await process.call(time.sleep, 60.0)
    await until_gone(pid)
    again = await process.call(os.getpid)
    with pytest.raises(Retryable, match="died"):
        await process.call(os.kill, again, signal.SIGKILL)
    assert await process.call(os.getpid) not in (pid, again)
    await process.close()


async def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(_PARENT)
    parent = await asyncio.create_subprocess_exec(sys.executable, str(tmp_path / "parent.py"), stdout=-1)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    await parent.wait()
    await until_gone(pid)
