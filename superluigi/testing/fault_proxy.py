"""A proxy on 127.0.0.1 that hurts HTTP traffic on purpose, one rule at a time.

    with FaultProxy("127.0.0.1", port_of_the_server) as proxy:      # clients talk to proxy.url
        proxy.add(Fault.LOST_REPLY, method="PUT", path=r"/key$")    # the first such request only
        ...
        proxy.log                                                    # what passed, and what was done to it

Speaks HTTP/1.1 without TLS; a thread a connection; standard library only.
"""

from __future__ import annotations

import contextlib
import enum
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

_BLOCK = 64 * 1024


class Fault(enum.Enum):
    """What happens to a request that a rule picks."""

    STATUS = "answer with `status` and `code`, or with the page `text`, without asking the server"
    REFUSE = "reset the connection before anything passed"
    CUT_REQUEST = "pass `after` bytes of the request's body to the server, then reset both sides"
    LOST_REPLY = "let the server do the work, then reset without an answer"
    CUT_REPLY = "pass `after` bytes of the answer's body, then reset"
    SHORT_REPLY = "pass `after` bytes of the answer's body, then close politely"
    CORRUPT_REPLY = "flip one bit of the answer's body at offset `after`"
    CORRUPT_REQUEST = "flip one bit of the request's body at offset `after`"
    DELAY = "wait `seconds`, then pass everything on"
    HANG = "take the request, stay silent for `seconds`, then reset"


@dataclass
class Rule:
    """Which requests are hurt (all that is given must match), after how many, how often, and how."""

    fault: Fault
    method: str | None = None
    path: str | None = None
    query: str | None = None
    #: Found in the header of this name: who signs, say.
    authorization: str | None = None
    skip: int = 0
    times: int | None = 1
    after: int = 0
    seconds: float = 1.0
    status: int = 503
    code: str = "SlowDown"
    text: str = ""
    hits: int = 0

    def takes(self, method: str, path: str, query: str, authorization: str = "") -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        if self.method not in (None, method):
            return False
        wanted = ((self.path, path), (self.query, query), (self.authorization, authorization))
        if not all(re.search(pattern or "", text) for pattern, text in wanted):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.hits += 1
        return True


@dataclass(frozen=True)
class Passed:
    """One request that came by; `status` is None where no answer reached the proxy."""

    method: str
    path: str
    query: str
    fault: Fault | None
    status: int | None
    headers: dict[str, str] = field(default_factory=dict, repr=False)


class _ResetError(Exception):
    """Both sides get a TCP reset now."""


class FaultProxy:
    """Listens on a free port while its `with` block lasts."""

    def __init__(self, host: str, port: int) -> None:
        self.server = (host, port)
        self.rules: list[Rule] = []
        self.log: list[Passed] = []
        self.url = ""
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closing = False

    def add(self, fault: Fault, **how: object) -> Rule:
        """Hurt the next matching request; see `Rule` for the keywords."""
        rule = Rule(fault, **how)  # type: ignore[arg-type]
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget rules and log."""
        with self._lock:
            self.rules.clear()
            self.log.clear()

    def __enter__(self) -> FaultProxy:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, name="fault-proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closing = True
        with contextlib.suppress(OSError):  # wakes accept()
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        with self._lock:
            for side in self._open:
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="fault-proxy-client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        sides = [client]
        with self._lock:
            self._open.add(client)
        try:
            server = socket.create_connection(self.server)
            sides.append(server)
            with self._lock:
                self._open.add(server)
            for side in sides:
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client.makefile("rb") as from_client, server.makefile("rb") as from_server:
                while self._exchange(client, from_client, server, from_server):
                    pass
        except _ResetError:
            for side in sides:
                # Linger of zero seconds makes close() send RST and not FIN.
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except (OSError, EOFError, ValueError):
            pass  # one side went away: so does the other
        finally:
            with self._lock:
                self._open.difference_update(sides)
            for side in sides:
                side.close()

    def _exchange(
        self, client: socket.socket, from_client: BinaryIO, server: socket.socket, from_server: BinaryIO
    ) -> bool:
        """Pass one request and its answer; whether the connection lives on."""
        head = _read_head(from_client)
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        path, _, query = target.partition("?")
        fields = _fields(head)
        signed = fields.get("authorization", "")
        with self._lock:
            rule = next((rule for rule in self.rules if rule.takes(method, path, query, signed)), None)
        fault, after = (rule.fault, rule.after) if rule else (None, 0)

        def note(status: int | None) -> None:
            with self._lock:
                self.log.append(Passed(method, path, query, fault, status, fields))

        if rule and fault is Fault.REFUSE:
            note(None)
            raise _ResetError
        if rule and fault is Fault.STATUS:
            note(rule.status)
            self._answer(rule, method, client, from_client, fields)
            return False
        if rule and fault is Fault.DELAY:
            time.sleep(rule.seconds)
        server.sendall(head)
        answer = self._pass_interim(client, from_server) if fields.get("expect", "") else b""
        if not answer:
            for block in _hurt(_body(from_client, fields), fault, after, Fault.CUT_REQUEST, Fault.CORRUPT_REQUEST):
                server.sendall(block)
                if fault is Fault.CUT_REQUEST and not block:
                    note(None)
                    raise _ResetError
        if rule and fault is Fault.HANG:
            note(None)
            time.sleep(rule.seconds)
            raise _ResetError
        while not answer or answer.split(b" ", 2)[1] == b"100":
            answer = _read_head(from_server)
        status = int(answer.split(b" ", 2)[1])
        note(status)
        if fault is Fault.LOST_REPLY:
            raise _ResetError
        client.sendall(answer)
        kept = _fields(answer)
        if method != "HEAD" and status not in (204, 304):
            body = _body(from_server, kept, until_closed=True)
            for block in _hurt(body, fault, after, Fault.CUT_REPLY, Fault.CORRUPT_REPLY, Fault.SHORT_REPLY):
                client.sendall(block)
                if not block and fault is Fault.CUT_REPLY:
                    time.sleep(0.05)  # let the part arrive: a reset may overtake it
                    raise _ResetError
                if not block and fault is Fault.SHORT_REPLY:
                    return False
        return "close" not in (fields.get("connection", "").lower(), kept.get("connection", "").lower())

    @staticmethod
    def _pass_interim(client: socket.socket, from_server: BinaryIO) -> bytes:
        """After `Expect: 100-continue`: pass the 100 on, or return the final answer that came instead."""
        answer = _read_head(from_server)
        if answer.split(b" ", 2)[1] != b"100":
            return answer
        client.sendall(answer)
        return b""

    @staticmethod
    def _answer(rule: Rule, method: str, client: socket.socket, from_client: BinaryIO, fields: dict[str, str]) -> None:
        if fields.get("expect", "").lower() != "100-continue":
            for _ in _body(from_client, fields):
                pass
        said = f'<?xml version="1.0"?><Error><Code>{rule.code}</Code><Message>on purpose</Message></Error>'
        text = "" if method == "HEAD" else rule.text or said
        client.sendall(
            f"HTTP/1.1 {rule.status} Fault\r\nContent-Type: application/xml\r\nConnection: close\r\n"
            f"Content-Length: {len(text)}\r\n\r\n{text}".encode()
        )


def _read_head(stream: BinaryIO) -> bytes:
    lines = []
    while (line := stream.readline(_BLOCK)) not in (b"\r\n", b""):
        lines.append(line)
    if not lines or not line:
        raise EOFError
    return b"".join([*lines, line])


def _fields(head: bytes) -> dict[str, str]:
    pairs = (line.decode("latin-1").partition(":") for line in head.split(b"\r\n")[1:] if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _body(stream: BinaryIO, fields: dict[str, str], until_closed: bool = False) -> Iterator[bytes]:
    """The body as it is on the wire, chunk headers included, in blocks."""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        size = -1
        while size:
            line = stream.readline(_BLOCK)
            size = int(line.split(b";")[0], 16)
            yield line
            if size:
                yield _exactly(stream, size + 2)
        while (line := stream.readline(_BLOCK)) not in (b"\r\n", b""):
            yield line
        yield line
    elif "content-length" in fields:
        left = int(fields["content-length"])
        while left:
            block = _exactly(stream, min(left, _BLOCK))
            left -= len(block)
            yield block
    elif until_closed:
        while block := stream.read(_BLOCK):
            yield block


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _hurt(
    body: Iterator[bytes], fault: Fault | None, after: int, cut: Fault, flip: Fault, *cuts: Fault
) -> Iterator[bytes]:
    """The blocks of `body`, with one bit flipped or cut at `after`; an empty block says "cut here"."""
    passed = 0
    for block in body:
        if fault in (cut, *cuts) and passed + len(block) > after:
            yield block[: after - passed]
            break
        if fault is flip and passed <= after < passed + len(block):
            hurt = bytearray(block)
            hurt[after - passed] ^= 1
            block = bytes(hurt)
        passed += len(block)
        yield block
    if fault in (cut, *cuts):
        yield b""
