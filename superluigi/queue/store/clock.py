"""Time that cannot be set: seconds since this machine was started, and which start that was.

A clock that is stepped (NTP after the boot, a resumed machine, a `date` typed by hand) must not take tasks from workers
that live, so leases are never measured by it.
"""

from __future__ import annotations

import time

from superluigi.storage import owner_token


def since_boot() -> float:
    """Seconds since the boot, those in which the machine slept included where the system counts them."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def boot() -> tuple[str, str]:
    """Which boot of which machine this is, and the namespace in which its time is counted."""
    parts = owner_token.world().split(".")
    return parts[0], parts[2] if len(parts) > 2 else ""
