"""The official CRDS client as a user has it: processes of its own, and three environment variables."""

import asyncio
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

#: Longest time of one command, seconds: generous, only a failure takes that long.
SOON_S = 120.0

#: What the installed ``irisdrs_crds.pth`` does, for an environment in which the distribution is not installed.
_STARTUP = "import irisdrs_crds_startup\n"


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    log: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass(frozen=True, slots=True)
class OfficialClient:
    """The client of one user.

    Attributes
    ----------
    server : str
        Where the server answers (``CRDS_SERVER_URL``).
    home : Path
        The user's folder. The cache (``CRDS_PATH``) is its folder ``crds_cache``.
    settings : mapping
        More environment variables.
    """

    server: str
    home: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        return self.home / "crds_cache"

    async def command(self, name: str, *arguments: str) -> Ran:
        """Run ``crds NAME ARGUMENTS``."""
        return await self._run("-m", f"crds.{name}", *arguments)

    async def python(self, code: str) -> Ran:
        """Run a script of the user's."""
        return await self._run("-c", code)

    async def _run(self, *arguments: str) -> Ran:
        startup = self.home / "startup"
        startup.mkdir(parents=True, exist_ok=True)
        (startup / "sitecustomize.py").write_text(_STARTUP)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CRDS_", "IRIS_"))}
        path = os.pathsep.join([str(startup), os.environ.get("PYTHONPATH", "")])
        environment = {
            **inherited,
            "PYTHONPATH": path,
            "CRDS_OBSERVATORY": "tmt",
            "CRDS_SERVER_URL": self.server,
            "CRDS_PATH": str(self.cache),
            **self.settings,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=self.home,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(SOON_S):
            out, log = await process.communicate()
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), log.decode())
