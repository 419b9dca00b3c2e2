"""A Dask cluster of our own listens to this machine only, on free ports, whatever else runs here."""

from __future__ import annotations

import contextlib
import socket
import warnings
from typing import Any

import pytest

from superluigi.execution.dask import local_cluster


def test_a_cluster_beside_another_asks_for_no_port_by_number_and_is_not_seen_from_outside() -> None:
    pytest.importorskip("distributed")
    psutil: Any = pytest.importorskip("psutil")
    with contextlib.closing(socket.socket()) as other, warnings.catch_warnings(record=True) as warned:
        with contextlib.suppress(OSError):  # then the dashboard of another cluster has it
            other.bind(("127.0.0.1", 8787))
            other.listen()
        warnings.simplefilter("always")
        here = psutil.Process()
        servers_of_other_tests = here.children(recursive=True)
        executor = local_cluster("here", 2)
        try:
            workers = [one for one in here.children(recursive=True) if one not in servers_of_other_tests]
            listening = [
                (process.pid, one.laddr.ip)
                for process in (here, *workers)
                for one in process.net_connections("inet")
                if one.status == psutil.CONN_LISTEN
            ]
        finally:
            executor.shutdown()
    assert {ip for _, ip in listening} == {"127.0.0.1"}
    assert len({pid for pid, _ in listening}) == 3, "the scheduler, which is in this process, and two workers"
    assert not [str(one.message) for one in warned if "8787" in str(one.message)]
