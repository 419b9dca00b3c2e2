"""Luigi's page over a queue or a run answers its own tabs, and nobody else's."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import tempfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tornado.httpserver
import tornado.netutil

from superluigi.engine import status_socket, visualiser
from superluigi.errors import ExecutionError
from superluigi.queue import Queue
from superluigi.queue.web import QueueScheduler

Project = Callable[[str], ModuleType]

FAILS = """
    class Fails(luigi.Task):
        kind = luigi.Parameter(default="")
        def run(self):
            raise ValueError("no")

    class Behind(luigi.Task):
        kind = luigi.Parameter(default="")
        def requires(self):
            return Fails(self.kind)
"""


class _Served:
    def __init__(self, port: int) -> None:
        self.port = port
        self.own = f"127.0.0.1:{port}"

    def ask(
        self, path: str, method: str = "GET", data: Any = None, host: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        text = urllib.parse.urlencode({"data": json.dumps(data or {})})
        given = {"Host": self.own if host is None else host, **{k.replace("_", "-"): v for k, v in headers.items()}}
        if method == "POST":
            given["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request(method, path, text, given)
        else:
            connection.request(method, f"{path}?{text}", headers=given)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found


def _serve(scheduler: Any, allowed: Callable[[str], bool]) -> Iterator[_Served]:
    ready: list[Any] = []
    begun = threading.Event()

    async def serve() -> None:
        sockets = tornado.netutil.bind_sockets(0, address="127.0.0.1")
        server = tornado.httpserver.HTTPServer(
            visualiser.app(scheduler, allowed), max_body_size=visualiser._LARGEST_BODY
        )
        server.add_sockets(sockets)
        stop = asyncio.Event()
        ready.extend((sockets[0].getsockname()[1], asyncio.get_running_loop(), stop))
        begun.set()
        await stop.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    begun.wait(10)
    yield _Served(ready[0])
    ready[1].call_soon_threadsafe(ready[2].set)
    thread.join(10)


@pytest.fixture
def queue(queue_name: str, project: Project) -> Iterator[Queue]:
    module = project(FAILS)
    with Queue(queue_name) as opened:
        opened.submit([module.Behind("a"), module.Behind("b")])
        opened.kill(name="Fails")
        opened.retry(module.Fails("a"))
        opened.work()
        yield opened


@pytest.fixture
def served(queue: Queue) -> Iterator[_Served]:
    yield from _serve(QueueScheduler(queue), visualiser.allowed_hosts("127.0.0.1", ["proxy.example"]))


@pytest.fixture
def idle(queue_name: str) -> Iterator[_Served]:
    """The page of a queue without tasks."""
    with Queue(queue_name) as opened:
        yield from _serve(QueueScheduler(opened), visualiser.allowed_hosts("127.0.0.1", ["proxy.example"]))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200), ("localhost:{port}", 200), ("LOCALHOST", 200), ("[::1]:{port}", 200),
        ("proxy.example", 200), ("other.example", 403), ("other.example:{port}", 403), ("127.0.0.1.other.example", 403),
        ("localhost.other.example:{port}", 403), ("", 403), ("10.1.2.3:{port}", 403), ("[::", 403),
        ("localhost:{port}.other.example", 403), ("localhost:99999", 403), ("127.1", 403), ("2130706433", 403),
    ],
)  # fmt: skip
def test_a_foreign_host_header_is_refused_everywhere(idle: _Served, host: str, status: int) -> None:
    for path in ("/api/task_list", "/static/visualiser/index.html", "/static/visualiser/js/luigi.js"):
        data = {"status": "FAILED", "upstream_status": ""}
        assert idle.ask(path, data=data, host=host.format(port=idle.port))[0] == status
    if status == 403:
        assert idle.ask("/", host=host.format(port=idle.port))[0] == 403
        assert idle.ask("/nothing", host=host.format(port=idle.port))[0] == 403


def test_who_listens_everywhere_is_found_by_numbers_and_by_the_hosts_name_only() -> None:
    allowed = visualiser.allowed_hosts("0.0.0.0")
    assert allowed("192.168.1.5") and allowed("fe80::1") and allowed(socket.gethostname().lower())
    assert not allowed("other.example") and not visualiser.allowed_hosts("10.0.0.1")("10.0.0.2")


CHANGES = ("pause", "unpause", "re_enable_task", "forgive_failures")


def test_nothing_changes_by_get_nor_from_another_site(served: _Served, queue: Queue) -> None:
    task_id = queue.tasks(state="FAILED")[0].id
    data = {"pause": {}, "unpause": {}}
    before = queue.counts(), queue.paused
    for method in CHANGES:
        given = data.get(method, {"task_id": task_id})
        assert served.ask(f"/api/{method}", data=given)[0] == 405
        assert served.ask(f"/api/{method}", "HEAD", data=given)[0] in (404, 405)
        for headers in (
            {"Origin": "http://other.example"}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
            {"Origin": "null"}, {"Origin": f"http://localhost:{served.port}"}, {"Origin": "http://127.0.0.1:1"},
        ):  # fmt: skip
            assert served.ask(f"/api/{method}", "POST", given, **headers)[0] == 403, (method, headers)
    assert (queue.counts(), queue.paused) == before
    own = {"Origin": f"http://{served.own}", "Sec_Fetch_Site": "same-origin"}
    assert served.ask("/api/pause", "POST", **own)[0] == 200 and queue.paused
    assert served.ask("/api/unpause", "POST")[0] == 200 and not queue.paused
    assert served.ask("/api/re_enable_task", "POST", {"task_id": task_id}, **own)[0] == 200
    assert queue.counts()["FAILED"] == 0
    assert served.ask("/api/re_enable_task", "POST", {"task_id": "unknown"}, **own)[0] == 200


def test_what_is_read_is_not_given_to_other_sites_and_nonsense_is_answered(served: _Served) -> None:
    assert served.ask("/api/worker_list", Sec_Fetch_Site="cross-site")[0] == 403
    for path in ("/api/", "/api/__init__", "/api/_queue", "/api/add_task", "/api/prune", "/metrics", "/history"):
        assert served.ask(path)[0] == 404
    assert served.ask("/api/task_list", data={"no_such": 1, "limit": []})[0] in (200, 400)
    assert served.ask("/api/fetch_error", data={"wrong": 1})[0] == 400
    for data in ({"search": 5}, {"search": {"a": 1}}, 5, "x", [[[]]]):
        assert served.ask("/api/task_list", data=data)[0] == 400, data
    assert served.ask("/api/task_search", data={"task_str": 5})[0] == 400
    assert served.ask("/static/%00")[0] == served.ask("/api/%00")[0] == 404
    assert served.ask("/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd")[0] in (403, 404)


def test_browsers_are_told_what_the_page_may_do(served: _Served) -> None:
    for path in ("/", "/static/visualiser/index.html", "/api/is_paused", "/nothing", "/api/pause"):
        headers = served.ask(path)[1]
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
        policy = headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy and "script-src 'self' 'sha256-" in policy
        assert "unsafe-inline" not in policy.partition("style-src")[0] and "unsafe-eval" not in policy
        assert not [name for name in headers if name.startswith("Access-Control")]
    script = served.ask("/static/visualiser/js/luigi.js")[2].decode()
    assert 'method: "POST"' in script and 'method: "GET"' not in script


def test_a_body_has_a_limit(served: _Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    try:
        connection.request("POST", "/api/pause", b"x" * (visualiser._LARGEST_BODY + 1), {"Host": served.own})
        assert connection.getresponse().status in (400, 413)
    except (ConnectionError, http.client.HTTPException):
        pass  # it hangs up before the body is through
    connection.close()


def test_a_blocked_task_stands_once(queue: Queue) -> None:
    scheduler = QueueScheduler(queue)
    lists = [
        scheduler.task_list(status="PENDING", upstream_status=word)
        for word in ("", "UPSTREAM_FAILED", "UPSTREAM_DISABLED", "UPSTREAM_MISSING_INPUT")
    ]
    assert [len(found) for found in lists] == [0, 1, 1, 0]
    assert len({name for found in lists for name in found}) == 2


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_folder_of_sockets_that_another_could_have_made_is_not_used(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="sl") as base:
        monkeypatch.setenv("XDG_RUNTIME_DIR", base)
        folder = status_socket.folder()
        if kind == "open":
            folder.mkdir(mode=0o777)
            folder.chmod(0o777)
        elif kind == "link":
            elsewhere = Path(base) / "elsewhere"
            elsewhere.mkdir(mode=0o700)
            os.symlink(elsewhere, folder)
        else:
            folder.write_text("")
        with pytest.raises(ExecutionError, match="cannot be used"):
            status_socket.active_runs()
        opened = status_socket.StatusServer(object(), "run-1")
        opened.open()  # the run goes on without
        assert opened._socket is None
        assert not list(Path(base).rglob("*.sock"))
