"""Records, rows, local copies, command lines and config files with something changed: a right answer, or our error."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from superluigi import config, lineage
from superluigi.cli import main
from superluigi.errors import SuperLuigiError
from superluigi.queue import Pool, Queue
from superluigi.queue.models import TaskSpec
from superluigi.queue.store import submit
from superluigi.storage.cache.cache import Cache
from superluigi.storage.local.cleanup import clean
from superluigi.testing.fault_injection import in_child
from superluigi.testing.target_suite import LocalFileRig, LocalFolderRig, publish

#: What takes the place of a value, or is put into a text.
VALUES: list[Any] = [
    None, True, 0, -1, 2**70, 1e308, "", "\0", "\udcff", "ä" * 300, "../../etc", "/", ".", [], [None], [[[]]], {},
    {"": {}}, {"type": 1}, "nan", "superluigi_absent", "S3PrefixTarget", "s3://b/k", {"sha256": None}, [{"path": 5}],
]  # fmt: skip
PIECES = [
    b"",
    b"\0",
    b"{",
    b"}",
    b"[",
    b'"',
    b"\xff\xfe",
    b"null",
    b"1e999",
    b"\\ud800",
    b"=",
    b"\n[",
    b"%(",
    b"${",
    b"-" * 9,
]


def changed(value: Any, chance: random.Random) -> Any:
    """A JSON value with one thing in it replaced, added or gone."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(list(value))
        if chance.random() < 0.15:
            return {name: held for name, held in value.items() if name != key}
        return {**value, key: changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        place = chance.randrange(len(value))
        return [*value[:place], changed(value[place], chance), *value[place + 1 :]]
    return chance.choice(VALUES)


def torn(text: bytes, chance: random.Random) -> bytes:
    """Bytes with a piece put in, gone, doubled, or cut off."""
    at, to = sorted(chance.randrange(len(text) + 1) for _ in range(2))
    return chance.choice([
        text[:at], text[:at] + text[to:], text[:to] + text[at:], text[:at] + chance.choice(PIECES) + text[at:],
        text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :],
    ])  # fmt: skip


def mutated(text: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return torn(text, chance)
    return json.dumps(changed(json.loads(text), chance)).encode()


def times(chance: random.Random, count: int, work: Callable[[], object], told: Callable[[], str]) -> None:
    """Do `work` so often; whatever it raises is ours."""
    for _ in range(count):
        try:
            work()
        except SuperLuigiError:
            continue
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error} came of {told()}") from error


def fuzz_records(place: Path, seed: int, count: int) -> None:
    chance, rigs = random.Random(seed), (LocalFileRig(place / "a"), LocalFolderRig(place / "b"))
    texts = []
    for rig in rigs:
        rig.folder.mkdir()
        publish(rig, "old")
        texts.append(Path(rig.target().metadata_path).read_bytes())
    text = b""

    def one() -> None:
        nonlocal text
        which = chance.randrange(2)
        rig, target = rigs[which], rigs[which].target()
        text = mutated(texts[which], chance)
        name = Path(target.metadata_path)
        if chance.random() < 0.3:
            name = name.with_name(f"{name.name}.pending")
        name.write_bytes(text)
        try:
            for look in (
                target.exists,
                target.read_metadata,
                lambda: lineage.trace(target),
                lambda: lineage.verify(rig.folder),
                lambda: clean(rig.folder, dry_run=True),
            ):
                with contextlib.suppress(SuperLuigiError):
                    look()
            if chance.random() < 0.1:
                with contextlib.suppress(SuperLuigiError):
                    publish(rig, "old")
        finally:
            name.unlink(missing_ok=True)
            Path(target.metadata_path).write_bytes(texts[which])

    times(chance, count, one, lambda: repr(text))


def fuzz_rows(place: Path, seed: int, count: int) -> None:
    chance, name = random.Random(seed), str(place / "q.sqlite")
    with Queue(name, pools={"default": Pool(1)}) as queue, queue._database.write() as connection:
        submit.add_run(connection, "run", 0.0, "{}")
        submit.add(connection, [TaskSpec(f"T{n}", "T", "m", "{}", deps=("T0",) if n else ()) for n in range(3)], "run")
    original = place / "original"
    shutil.copy(name, original)
    told = ""

    def one() -> None:
        nonlocal told
        for suffix in ("-wal", "-shm"):
            Path(name + suffix).unlink(missing_ok=True)
        shutil.copy(original, name)
        with contextlib.closing(sqlite3.connect(name)) as connection:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            table = chance.choice(sorted(tables))
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
            column = chance.choice(columns)
            value = chance.choice([v for v in VALUES if not isinstance(v, (list, dict)) and v not in ("\udcff", 2**70)])
            value = json.dumps(chance.choice(VALUES)) if chance.random() < 0.3 else value
            told = f"{table}.{column} = {value!r}"
            with contextlib.suppress(sqlite3.Error):
                connection.execute(f'UPDATE "{table}" SET "{column}" = ?', (value,))
                connection.commit()
        with Queue(name) as queue:
            for look in (queue.counts, queue.tasks, queue.check, queue.retry):
                with contextlib.suppress(SuperLuigiError):
                    look()

    times(chance, count, one, lambda: told)


def fuzz_copies(place: Path, seed: int, count: int) -> None:
    chance, text = random.Random(seed), b""
    cache = Cache(place / "copies")

    def fetch(path: Path, _: object) -> dict[str, dict[str, str]]:
        path.write_text("right")
        return {"": {"etag": "v1"}}

    entry = cache.entry("", "b", "key")
    with entry.open("v1", fetch, shared=True):
        pass

    def one() -> None:
        nonlocal text
        text = mutated(entry.state_file.read_bytes(), chance)
        entry.state_file.write_bytes(text)
        for look in (cache.entries, lambda: list(cache.verify()), lambda: entry.path):
            look()
        if chance.random() < 0.1:
            cache.clear()
        with entry.open("v1", fetch) as path:
            assert path.read_text() == "right"

    times(chance, count, one, lambda: repr(text))


COMMANDS = [
    ["trace", "store/output.txt"], ["verify", "store"], ["ls", "store"], ["clean", "store", "--dry-run"],
    ["cache", "list"], ["config"], ["queue", "list"], ["queue", "status", "q"], ["status"],
    ["why", "missing:Task", "--n", "1"],
    ["run", "missing:Task", "--n", "x"], ["graph", "missing:Task"], ["logs", "Task"], ["rm", "store/none"],
]  # fmt: skip
WORDS = [
    "",
    "-",
    "--",
    "---",
    "--help",
    "-1",
    "=",
    "--n=",
    "\0",
    "\udcff",
    "a:b:c",
    ":",
    "..",
    "/",
    "*",
    "ä",
    "x" * 500,
    "--older-than",
    "1 fortnight",
    "s3://",
    "s3:///",
    "--queue",
    "{}",
    "[1",
    "%s",
    "\n",
    "@file",
    "~nobody/x",
]


def fuzz_command_lines(place: Path, seed: int, count: int) -> None:
    chance, told = random.Random(seed), list[str]()
    (place / "store").mkdir()
    publish(LocalFileRig(place / "store"), "old")

    def one() -> None:
        nonlocal told
        told = list(chance.choice(COMMANDS))
        for _ in range(chance.randint(1, 2)):
            at = chance.randrange(len(told) + 1)
            told[at : at + chance.randrange(2)] = [chance.choice(WORDS)]
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.suppress(SystemExit):
            main(told)
        assert "Traceback" not in out.getvalue(), out.getvalue()

    times(chance, count, one, lambda: repr(told))


CONFIG = b"[superluigi]\nlocal_data_dir = data\ndurable = true\ncache_limit_bytes = 10 GB\n\n[core]\nlog_level = INFO\n"


def fuzz_config_files(place: Path, seed: int, count: int) -> None:
    chance, text = random.Random(seed), b""
    file = place / "superluigi.cfg"

    def one() -> None:
        nonlocal text
        text = torn(CONFIG, chance)
        file.write_bytes(text)
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.suppress(SystemExit):
            main(["config"])
        assert "Traceback" not in out.getvalue(), out.getvalue()
        for name in ("local_data_dir", "durable", "cache_limit_bytes"):
            with contextlib.suppress(SuperLuigiError):
                config.get(name)

    times(chance, count, one, lambda: repr(text))


def in_a_process(fuzz: Callable[[Path, int, int], None]) -> Callable[[Path, int, int], None]:
    """What a command takes from a config file stays in its process: a command has one of its own."""

    def fuzz_there(place: Path, seed: int, count: int) -> None:
        in_child(_fuzz_in, fuzz, place, seed, count)

    return fuzz_there


def _fuzz_in(fuzz: Callable[[Path, int, int], None], place: Path, seed: int, count: int) -> None:
    os.chdir(place)
    fuzz(place, seed, count)


FUZZED: dict[str, tuple[Callable[[Path, int, int], None], int]] = {  # and how many in the normal mode
    "records": (fuzz_records, 200),
    "rows": (fuzz_rows, 100),
    "copies": (fuzz_copies, 200),
    "command lines": (in_a_process(fuzz_command_lines), 200),
    "config files": (in_a_process(fuzz_config_files), 200),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("what", FUZZED)
def test_a_sample_of_changed_state_is_read_or_refused_in_our_words(place: Path, what: str) -> None:
    fuzz, count = FUZZED[what]
    fuzz(place, 1, count)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("what", FUZZED)
def test_much_changed_state_is_read_or_refused_in_our_words(place: Path, what: str) -> None:
    fuzz, _ = FUZZED[what]
    fuzz(place, int.from_bytes(os.urandom(4), "big"), 10_000)
