"""Luigi's own page, served so that only its own tabs can use it.

A page elsewhere must not reach it: neither by a name of its own that it lets point here (DNS rebinding: foreign Host
headers are refused), nor by sending requests across (what changes something is a POST, which must come from this very
page as far as the browser tells), nor by showing it in a frame. It runs no script but Luigi's.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import ipaddress
import json
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import luigi
import tornado.httpserver
import tornado.netutil
import tornado.web

from superluigi.engine.status_socket import ALLOWED
from superluigi.errors import OptionError, SuperLuigiError
from superluigi.terminal import say

#: What Luigi's page may ask by GET: nothing changes. All else is a POST.
READS = frozenset(
    """dep_graph fetch_error get_running_task_resources get_scheduler_message_response get_task_progress_percentage
    get_task_status_message graph has_task_history inverse_dep_graph is_pause_enabled is_paused resource_list task_list
    task_search worker_list""".split()  # noqa: SIM905 fifteen quoted names read worse
)
#: Ours: which run this is, and whether it has ended.
STATE = "superluigi_state"
_LARGEST_BODY = 1 << 20
_STATIC = Path(luigi.__file__).parent / "static"
#: In Luigi's script: the one place where its page asks its server.
_ASKS_BY_GET, _ASKS_BY_POST = 'method: "GET"', 'method: "POST"'


async def serve(
    scheduler: object, host: str, port: int, ready: Callable[[str], None], hosts: Collection[str] = ()
) -> None:
    """Serve the page over `scheduler` until Ctrl-C or SIGTERM; `ready` gets its address, port 0 is any free one.

    `hosts` are further names under which it may be asked for, such as that of a proxy before it.

    Raises:
        OptionError: it cannot listen there.
    """
    try:
        sockets = tornado.netutil.bind_sockets(port, address=host)
    except OSError as error:
        raise OptionError(
            f"The page cannot be served at {host}, port {port}: {error.strerror}. Give another --port "
            "(0: any free one)."
        ) from error
    server = tornado.httpserver.HTTPServer(
        app(scheduler, allowed_hosts(host, hosts)),
        max_body_size=_LARGEST_BODY, body_timeout=30.0, idle_connection_timeout=120.0,
    )  # fmt: skip
    server.add_sockets(sockets)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{sockets[0].getsockname()[1]}/static/visualiser/index.html")
    await ended.wait()
    server.stop()


def allowed_hosts(host: str, more: Collection[str] = ()) -> Callable[[str], bool]:
    """Whether a name in a Host header is one of ours: loopback's, the one that is listened at, and `more`."""
    known = {"localhost", "127.0.0.1", "::1", host.lower(), *(name.lower() for name in more)}
    everywhere = host in ("", "0.0.0.0", "::")
    if everywhere:
        known |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def allowed(name: str) -> bool:
        return name in known or (everywhere and _is_address(name))

    return allowed


def _is_address(name: str) -> bool:
    """Whether it is a number: no other page can let that point here."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def app(scheduler: object, allowed: Callable[[str], bool]) -> tornado.web.Application:
    """The page as an application of tornado."""
    return tornado.web.Application(
        [
            (r"/", _Root),
            (r"/api/(\w*)", _Api),
            (r"/static/visualiser/(js/luigi\.js)", _Script),
            (r"/static/visualiser/index\.html", _Index),
            (r"/static/visualiser/js/superluigi\.js", _StateScript),
            (r"/static/(.*)", _Files, {"path": str(_STATIC)}),
        ],
        compress_response=True,
        log_function=lambda handler: None,  # a request that is refused is no news for the terminal
        default_handler_class=_Nothing,
        allowed=allowed,
        scheduler=scheduler,
    )


class _Guarded(tornado.web.RequestHandler):
    """Refuses requests that are not this page's own, and says to browsers what it may do."""

    def set_default_headers(self) -> None:
        for name, value in _headers().items():
            self.set_header(name, value)

    def prepare(self) -> Awaitable[None] | None:
        if not self.settings["allowed"](_name_in(self.request.headers.get("Host", ""))):
            raise tornado.web.HTTPError(403, reason="Not a name of this page: see --allow-host")
        if "\0" in unquote(self.request.path):
            raise tornado.web.HTTPError(404)
        if self.request.path.startswith("/api/") or self.request.method not in ("GET", "HEAD"):
            self._require_own_tab()
        return None

    def _require_own_tab(self) -> None:
        site = self.request.headers.get("Sec-Fetch-Site", "none")
        origin = self.request.headers.get("Origin")
        foreign = origin is not None and urlsplit(origin).netloc != self.request.headers.get("Host")
        if site not in ("same-origin", "none") or foreign:
            raise tornado.web.HTTPError(403, reason="Only this page itself may ask that")

    def log_exception(self, kind: Any, error: object, where: object) -> None:
        """In one line; a traceback tells the one who looks at a page nothing."""
        if not isinstance(error, tornado.web.HTTPError):
            say(f"The page could not answer {self.request.path}: {kind.__name__}: {error}", err=True)

    def write_error(self, status_code: int, **more: object) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code}: {self._reason}\n")


def _name_in(header: str) -> str:
    """The name in a Host header, without the port; none where that is no number."""
    try:
        parts = urlsplit(f"//{header}")
        return "" if parts.port == 0 else (parts.hostname or "").lower()
    except ValueError:
        return ""


@functools.cache
def _headers() -> dict[str, str]:
    policy = (
        f"default-src 'none'; script-src 'self' {_inline_scripts()}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy, "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-cache", "Server": "superluigi",
    }  # fmt: skip


def _inline_scripts() -> str:
    """Digests of the scripts inside Luigi's page: these, and no others, may run."""
    page = (_STATIC / "visualiser" / "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


class _Root(_Guarded):
    def get(self) -> None:
        self.redirect("static/visualiser/index.html")  # relative, for proxies that serve it below a path


class _Nothing(_Guarded):
    def prepare(self) -> Awaitable[None] | None:
        super().prepare()
        raise tornado.web.HTTPError(404)


class _Api(_Guarded):
    def get(self, method: str) -> None:
        if method not in READS and method != STATE:
            raise tornado.web.HTTPError(405 if method in ALLOWED else 404)
        self._answer(method)

    def post(self, method: str) -> None:
        if method not in ALLOWED:
            raise tornado.web.HTTPError(404)
        self._answer(method)

    def _answer(self, method: str) -> None:
        try:
            asked = getattr(self.settings["scheduler"], method)
        except AttributeError as error:
            raise tornado.web.HTTPError(404) from error
        try:
            arguments = json.loads(self.get_argument("data", "{}"))
            answer = {"response": asked(**arguments)}
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:  # of another kind
            raise tornado.web.HTTPError(400) from error
        except SuperLuigiError as error:  # the run has ended, the queue is gone
            raise tornado.web.HTTPError(503) from error
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(answer, default=str))


class _Index(_Guarded):
    """Luigi's page; over a run it also shows which one that is, and when it has ended."""

    def get(self) -> None:
        page = (_STATIC / "visualiser" / "index.html").read_text(encoding="utf-8")
        if hasattr(type(self.settings["scheduler"]), STATE):
            page = page.replace("</body>", '<script src="js/superluigi.js"></script></body>')
        self.finish(page)


class _StateScript(_Guarded):
    """Ours: a line above Luigi's page."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.finish(_STATE_SCRIPT)


#: When the run ends, the page is loaded once more: it then shows the last state.
_STATE_SCRIPT = """"use strict";
(() => {
  const bar = document.createElement("div");
  bar.id = "superluigi-state";
  bar.setAttribute("role", "status");
  bar.style.cssText = "position:fixed;left:0;right:0;bottom:0;z-index:2000;padding:7px 16px;font:14px/1.4 sans-serif;"
    + "color:#fff;background:#1b5e20;box-shadow:0 -1px 6px rgba(0,0,0,.3);overflow-wrap:anywhere";
  document.body.append(bar);
  let ran = false;
  async function look() {
    let state;
    try {
      const answer = await fetch("../../api/superluigi_state");
      state = (await answer.json()).response;
    } catch (_) {
      bar.style.background = "#5b6675";
      bar.textContent = "`superluigi ui` has been ended; what is shown is what it told last.";
      return;
    }
    const task = state.task || `run ${state.run}`;
    document.title = `${task} – Luigi`;
    if (!state.ended) {
      ran = true;
      bar.textContent = `${task} is running (run ${state.run})`;
    } else if (ran) {
      location.reload();
      return;
    } else {
      const at = new Date(state.ended).toLocaleTimeString();
      const words = { PENDING: "not run", RUNNING: "ended while running" };
      const told = ([name, count]) => `${count} ${words[name] || name.toLowerCase()}`;
      const counts = Object.entries(state.counts).map(told).join(", ");
      bar.style.background = state.counts.FAILED || !state.known ? "#b3261e" : "#37474f";
      bar.textContent = state.known ? `${task} ended at ${at}: ${counts}. This is its last state.`
        : `${task} ended at ${at} without saying how: its process is gone. This is what was seen last.`;
    }
    setTimeout(look, state.ended ? 10000 : 1000);
  }
  look();
})();
"""


class _Files(_Guarded, tornado.web.StaticFileHandler):
    """Luigi's files."""


class _Script(_Guarded):
    """Luigi's script, which asks by POST here: a GET changes nothing."""

    def get(self, name: str) -> None:
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        script = (_STATIC / "visualiser" / name).read_text(encoding="utf-8")
        self.finish(script.replace(_ASKS_BY_GET, _ASKS_BY_POST))
