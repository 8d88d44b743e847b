"""crds_proxy in front of another CRDS server."""

import asyncio

from tests.crds_proxy.faulty_line import SOON_S

from irisdrs.crds_proxy.upstream.holdings import UpstreamHoldings
from irisdrs.crds_proxy.upstream.server import CrdsServer
from irisdrs.crds_proxy.verification import Verifier
from irisdrs.shared.crds.cache import Cache

GAIN = "tmt_iris_gain_0001.fits"

#: Of the server's gain, bytes: many pieces of a download.
LARGE = 2880 * 2500

#: For all references, bytes.
ROOM = 1_000_000_000


def in_front_of(url: str, local: Cache, *, bound: int = ROOM, silence_s: float = 10.0) -> UpstreamHoldings:
    """Holdings that bring what the server at `url` has into a cache."""
    return UpstreamHoldings(CrdsServer(url, silence_s=silence_s), Verifier(local), bound=bound)


async def until_stale(holdings: UpstreamHoldings, *, stale: bool = True) -> None:
    """Wait until what the server said is old, or is not any more."""
    async with asyncio.timeout(SOON_S):
        while (await holdings.catalogue()).stale is not stale:
            await asyncio.sleep(0.1)
