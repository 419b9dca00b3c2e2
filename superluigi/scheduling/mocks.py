"""Luigi's `MockTarget` in our processes: what one of them writes, all of this run see, as under Luigi's workers."""

from __future__ import annotations

import multiprocessing
import pickle
import sys


def lent() -> tuple[bytes, bytes] | None:
    """What a process needs to see the mock files of this one; None where nobody uses them."""
    if "luigi.mock" not in sys.modules:
        return None
    from luigi.mock import MockFileSystem

    return bytes(multiprocessing.current_process().authkey), pickle.dumps(MockFileSystem().get_all_data())


def take_over(files: tuple[bytes, bytes]) -> None:
    """See the mock files of the process that lent them."""
    from luigi.mock import MockFileSystem

    # they are a proxy of a server that the lender has started, which asks for its key
    multiprocessing.current_process().authkey, dumped = files
    MockFileSystem._data = pickle.loads(dumped)
