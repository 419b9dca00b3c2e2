"""A token says who made a thing, and only the process table of that very boot and pid namespace calls it gone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from superluigi.storage import owner_token
from superluigi.storage.local.stages import staging
from superluigi.targets import LocalFileTarget, LocalFolderTarget
from superluigi.testing import fault_injection

BOOT, _, NAMESPACE = owner_token.world().partition(".")
#: A process that has ended, with a number that no living one can have.
GONE = "4194999-1-0123456789ab"


def test_a_process_of_this_boot_that_ended_is_gone() -> None:
    made = [sys.executable, "-c", "from superluigi.storage import owner_token; print(owner_token.token())"]
    token = subprocess.run(made, capture_output=True, text=True, check=True).stdout.strip()
    assert owner_token.is_of_this_world(token)
    assert owner_token.owner_is_gone(token)
    assert owner_token.owner_is_gone(f"renamed.since-{owner_token.world()}-{GONE}")


@pytest.mark.parametrize(
    "world",
    [
        f"{'f' * 12}.{NAMESPACE}",  # another machine of the same name, or this one before it was started again
        f"{BOOT}.4026532999",  # another container of this machine
        f"{BOOT}.{NAMESPACE}.4026533111",  # a time namespace: start times are shifted there
        None,  # version 0.1: host, pid and start time only
    ],
)
def test_what_another_world_left_may_be_alive_and_is_never_swept(tmp_path: Path, world: str | None) -> None:
    token = "-".join(part for part in (owner_token.host(), world, GONE) if part)
    assert owner_token.is_token(token)
    assert not owner_token.is_of_this_world(token)
    assert not owner_token.owner_is_gone(token)
    stages = [tmp_path / f".superluigi-{token}", tmp_path / f".superluigi/{token}"]
    for stage in stages:
        stage.mkdir(parents=True)
        (stage / "out.txt").write_text("being written")
    old_file = tmp_path / f".superluigi-{token}.out.txt"
    old_file.write_text("being written")
    for target in (LocalFileTarget(tmp_path / "f"), LocalFolderTarget(tmp_path / "d")):
        with target.tmp_write_path() as path:
            (path / "x" if path.is_dir() else path).write_text("x")
        with target.tmp_read_path():
            pass
    assert all((stage / "out.txt").read_text() == "being written" for stage in stages)
    assert old_file.exists()
    assert staging.sweep(tmp_path, always=True) == []


def test_a_system_that_names_no_boot_calls_nobody_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_token, "_boot_id", lambda: owner_token._UNKNOWN_BOOT)
    owner_token.world.cache_clear()
    try:
        assert not owner_token.owner_is_gone(f"{owner_token.host()}-{owner_token.world()}-{GONE}")
    finally:
        monkeypatch.undo()
        owner_token.world.cache_clear()


def test_a_token_is_a_name_that_file_systems_take_and_tells_its_host() -> None:
    token = owner_token.token()
    assert len(token) < 100 and "/" not in token
    assert owner_token.token_in(f"{token}.rest") == token
    assert owner_token.host_of(token) == owner_token.host()
    assert owner_token.is_own(token) and not owner_token.owner_is_gone(token)


def test_a_forked_child_is_another_process_and_its_parent_lives() -> None:
    token = owner_token.token()
    assert fault_injection.in_child(is_own_or_gone, token) == (False, False)


def is_own_or_gone(token: str) -> tuple[bool, bool]:
    return owner_token.is_own(token), owner_token.owner_is_gone(token)
