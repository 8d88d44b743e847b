"""A process with a skewed clock sees another time of day, and its timers keep their length."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import unavailable

from irisdrs.shared.testing.servers.clock import skewed
from irisdrs.shared.testing.servers.process import ServerMissing

#: What a process with a wrong clock measures; as a file, because multiprocessing imports it again.
PROGRAM = """
import asyncio, datetime, json, multiprocessing, queue, threading, time

def child(answers):
    answers.put(datetime.datetime.now(datetime.UTC).timestamp())

def took(wait):
    start_s = time.monotonic()
    wait()
    return time.monotonic() - start_s

def empty(answers):
    try:
        answers.get(timeout=0.2)
    except queue.Empty:
        pass

async def timeout():
    try:
        async with asyncio.timeout(0.2):
            await asyncio.Event().wait()
    except TimeoutError:
        pass

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=child, args=(answers,))
    process.start()
    waits = {
        "asyncio.sleep": took(lambda: asyncio.run(asyncio.sleep(0.2))),
        "asyncio.timeout": took(lambda: asyncio.run(timeout())),
        "time.sleep": took(lambda: time.sleep(0.2)),
        "Event.wait": took(lambda: threading.Event().wait(0.2)),
        "Semaphore.acquire": took(lambda: spawn.Semaphore(0).acquire(timeout=0.2)),
        "Queue.get": took(lambda: empty(spawn.Queue())),
    }
    print(json.dumps({
        "now": datetime.datetime.now(datetime.UTC).timestamp(), "time": time.time(), "child": answers.get(timeout=60),
        "monotonic": time.monotonic(), "waits": waits,
    }))
    process.join()
"""


@pytest.mark.parametrize("offset_s", [300, -300])
def test_only_the_time_of_day_is_off(tmp_path: Path, offset_s: int) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="ascii")
    environment = _skewed_or_skip(offset_s, tmp_path)
    before_s, before_monotonic_s = time.time(), time.monotonic()
    done = subprocess.run([sys.executable, str(program)], env=environment, capture_output=True, text=True, check=True)
    after_s, after_monotonic_s = time.time(), time.monotonic()
    found = json.loads(done.stdout)
    for clock in ("now", "time", "child"):
        assert before_s <= found[clock] - offset_s <= after_s
    assert before_monotonic_s <= found["monotonic"] <= after_monotonic_s
    for wait, took_s in found["waits"].items():
        assert 0.15 <= took_s < 100.0, wait


def test_iris_works_under_it(tmp_path: Path) -> None:
    iris = Path(sys.executable).parent / "iris"
    environment = _skewed_or_skip(300, tmp_path)
    done = subprocess.run([iris, "topology", "--json"], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["queues"]


def _skewed_or_skip(offset_s: int, folder: Path) -> dict[str, str]:
    try:
        return skewed(os.environ, offset_s, folder)
    except ServerMissing as problem:
        unavailable(str(problem))
