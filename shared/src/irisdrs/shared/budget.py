"""The latency budget: how long after the last photon a product must be there.

An observer judges an exposure by its reduced image before the next one is over. Requirement of the real-time system:
reduced image within 30 s, cube within 60 s of the data being taken.
"""

#: Seconds from the last photon to the telling of a reduced image.
REDUCED_IMAGE_S = 30.0

#: Seconds from the last photon to the telling of a cube.
CUBE_S = 60.0

#: What is told later than this after its last photon is told again (after a restart, by reconciliation), or was made
#: again: that is no latency of the real-time road, seconds.
TOLD_AGAIN_S = 3600.0


def budget_s(kind: str) -> float:
    """Budget of a kind of product, seconds; everything on the way to an image shares the image's."""
    return CUBE_S if kind == "cube" else REDUCED_IMAGE_S
