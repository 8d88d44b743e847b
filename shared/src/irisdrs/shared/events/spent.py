"""What each service has spent on the way to an event: the extension attribute `spent` of the envelope.

``readout:1.204,calibrate:4.511``: seconds that a service had the event that led to this one, by its own monotonic
clock, in the order of the way. What the wall clock counted beyond their sum, nobody worked: the event waited.
"""

import math

#: Longest time that is believed of a service, seconds: a year. More is damage, and would hide what all others used.
LONGEST_S = 31_557_600.0

_SHARE = "[a-z_]+:[0-9]{1,8}\\.[0-9]{3}"

#: Text of the attribute; empty when nobody has spent anything. As many digits as `LONGEST_S` has.
PATTERN = rf"^({_SHARE}(,{_SHARE})*)?$"

#: Longest text: three times the services that there are.
MAX_LENGTH = 400


def parse(text: str) -> dict[str, float]:
    """Seconds by service, in the order of the way, without what cannot be."""
    shares = ((name, float(seconds)) for name, _, seconds in (one.partition(":") for one in text.split(",") if one))
    return {name: seconds for name, seconds in shares if _can_be(seconds)}


def add(text: str, service: str, seconds: float) -> str:
    """What was spent when a service has spent some seconds more; one that comes again is added up.

    What cannot be is left out.
    """
    spent = parse(text)
    total = spent.get(service, 0.0) + max(seconds, 0.0)
    if _can_be(total):
        spent[service] = total
    made = ",".join(f"{name}:{seconds:.3f}" for name, seconds in spent.items())
    return made if len(made) <= MAX_LENGTH else text


def _can_be(seconds: float) -> bool:
    return math.isfinite(seconds) and seconds <= LONGEST_S
