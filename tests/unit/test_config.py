"""Settings: where a value comes from, what is refused, and that nothing stays behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from luigi.configuration import get_config
from luigi.configuration.toml_parser import LuigiTomlParser

from superluigi import config, run_task
from superluigi.errors import ConfigError
from superluigi.targets import LocalFileTarget
from superluigi.tasks import Task


@pytest.fixture
def section() -> Any:
    with config.applied({"superluigi": {"keep_days": "7", "keep_attempts": 4}}):
        yield


def test_the_environment_wins_over_the_config_and_that_over_the_default(
    section: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config.lookup("keep_days") == (7.0, "config [superluigi]")
    assert config.get("keep_attempts") == 4
    monkeypatch.setenv("SUPERLUIGI_KEEP_DAYS", "2.5")
    assert config.lookup("keep_days") == (2.5, "environment SUPERLUIGI_KEEP_DAYS")
    assert config.lookup("durable") == (True, "default")


def test_unknown_settings_are_refused_with_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'keep_days'"):
        config.get("keep_day")
    with config.applied({"superluigi": {"durabel": "no"}}):
        with pytest.raises(ConfigError, match="durable"):
            config.get("durable")
        with pytest.raises(ConfigError, match="durabel"):
            config.check()


def test_a_value_that_cannot_be_read_is_refused_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERLUIGI_DURABLE", "perhaps")
    with pytest.raises(ConfigError, match=r"SUPERLUIGI_DURABLE.*true or false"):
        config.get("durable")
    monkeypatch.setenv("SUPERLUIGI_CACHE_LIMIT_BYTES", "10 parrots")
    with pytest.raises(ConfigError, match="10GB"):
        config.get("cache_limit_bytes")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", None),
        ("none", None),
        ("1000", 1000),
        ("10GB", 10**10),
        ("10 GB", 10**10),
        ("1.5 kb", 1500),
        ("500MiB", 500 * 2**20),
        ("2 GiB", 2**31),
        ("1t", 10**12),
        ("7b", 7),
    ],
)
def test_sizes_are_written_as_people_write_them(monkeypatch: pytest.MonkeyPatch, text: str, size: int | None) -> None:
    monkeypatch.setenv("SUPERLUIGI_CACHE_LIMIT_BYTES", text)
    assert config.get("cache_limit_bytes") == size


def test_applied_values_are_gone_afterwards_and_what_was_there_is_back() -> None:
    parser = get_config()
    parser.set("Kept", "here", "before")
    try:
        with (
            pytest.raises(ZeroDivisionError),
            config.applied({"Kept": {"here": "now", "new": "100%"}, "Fresh": {"a": [1, {"b": 2}]}}),
        ):
            assert parser.get("Kept", "here") == "now" and parser.get("Kept", "new") == "100%"
            assert parser.get("Fresh", "a") == '[1, {"b": 2}]'
            raise ZeroDivisionError
        assert parser.get("Kept", "here") == "before"
        assert not parser.has_option("Kept", "new") and not parser.has_section("Fresh")
    finally:
        parser.remove_section("Kept")


def test_a_config_file_keeps_the_case_of_parameters_and_per_cent_signs(tmp_path: Path) -> None:
    file = tmp_path / "a.cfg"
    file.write_text("[MyTask]\nCamelCase = 50% off\nlist = [1, 2]\n# a remark\n[empty]\n", encoding="utf-8")
    assert config.read_file(file) == {"MyTask": {"CamelCase": "50% off", "list": "[1, 2]"}, "empty": {}}


@pytest.mark.parametrize("content", [b"no section = 1", b"[a]\nb\n", b"\xff\xfe[a]"])
def test_a_broken_config_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.cfg"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.cfg"):
        config.read_file(file)
    with pytest.raises(ConfigError, match=r"nowhere\.cfg"):
        config.read_file(tmp_path / "nowhere.cfg")


def test_luigis_toml_parser_is_read_applied_and_restored_too(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = LuigiTomlParser()
    parser.data = {"superluigi": {"keep_days": 3.5, "durable": False}, "MyTask": {"n": 1}, "top": 5}
    monkeypatch.setenv("LUIGI_CONFIG_PARSER", "toml")
    monkeypatch.setattr(LuigiTomlParser, "enabled", True)
    monkeypatch.setattr(LuigiTomlParser, "_instance", parser)
    assert config.get("keep_days") == 3.5 and config.get("durable") is False
    with config.applied({"MyTask": {"n": 2, "names": ["a", "100%"]}, "New": {"x": True}}):
        assert parser.data["MyTask"] == {"n": 2, "names": ["a", "100%"]} and parser.data["New"] == {"x": True}
    assert parser.data["MyTask"] == {"n": 1} and "New" not in parser.data
    assert config.raw_sections() == {"superluigi": {"keep_days": 3.5, "durable": False}, "MyTask": {"n": 1}}
    parser.data["superluigi"]["durabel"] = True
    with pytest.raises(ConfigError, match="durable"):
        config.get("keep_days")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("GRACE_SECONDS", "soon", "a number of 0 or more"),
        ("GRACE_SECONDS", "nan", "a number of 0 or more"),
        ("KEEP_DAYS", "-1", "a number of 0 or more"),
        ("QUARANTINE_DAYS", "1e400", "a number of 0 or more"),
        ("KEEP_ATTEMPTS", "1.5", "a whole number of 0 or more"),
        ("QUEUE_KEEP_TASKS", "-3", "a whole number of 0 or more"),
        ("CACHE_LIMIT_BYTES", "infGB", "a size such as 10GB"),
        ("CACHE_LIMIT_BYTES", "nan", "a size such as 10GB"),
        ("CACHE_MIN_FREE_BYTES", "-5", "a size such as 10GB"),
        ("LOCAL_DATA_DIR", "~no-such-user-here/x", "a folder .*home"),
        ("EXCLUSIVE", "perhaps", "one of auto, wait"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, expected: str
) -> None:
    class Waits(Task):
        def output(self) -> LocalFileTarget:
            return LocalFileTarget(tmp_path / "waits.txt")

        def run(self) -> None:
            Path(self.output().path).write_text("ran")

    monkeypatch.setenv(f"SUPERLUIGI_{name}", text)
    with pytest.raises(ConfigError, match=rf"SUPERLUIGI_{name}.*expected {expected}"):
        run_task(Waits())
    monkeypatch.delenv(f"SUPERLUIGI_{name}")
    with pytest.raises(ConfigError, match=rf"config \[superluigi\].*expected {expected}"):
        run_task(Waits(), config={"superluigi": {name.lower(): text}})
    assert not (tmp_path / "waits.txt").exists()


@pytest.mark.parametrize(
    "value", [{(1, 2): 3}, [{1}], {"a": b"x"}, ([object()],)], ids=["tuple", "set", "bytes", "object"]
)
def test_a_value_that_no_text_can_hold_is_refused_and_nothing_stays(value: Any) -> None:
    class Asked(Task):
        pass

    with pytest.raises(ConfigError, match=r"cannot hold .*: .*Give the text as on a command line"):
        run_task(Asked(), config={"Before": {"key": "1"}, "Asked": {"x": value}})
    assert not get_config().has_section("Before")


@pytest.mark.parametrize(
    "name", [setting.name for setting in config.SETTINGS.values() if setting.parse is config.folder]
)
@pytest.mark.parametrize("text", ["", "  ", "s3://bucket/prefix", "gs://bucket"])
def test_a_folder_is_not_named_by_nothing_nor_by_an_address(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(f"SUPERLUIGI_{name.upper()}", text)
    with pytest.raises(ConfigError, match=f"SUPERLUIGI_{name.upper()}.*expected a folder"):
        config.get(name)


@pytest.mark.parametrize("value", ["", " ", None, "a\0b"])
def test_a_store_is_not_named_by_nothing(value: object) -> None:
    with (
        config.applied({"superluigi": {"store": value}}),
        pytest.raises(ConfigError, match=r"store = .*expected a folder"),
    ):
        config.get("store")


def test_what_is_no_config_file_is_told_as_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # what `--config <(…)` gives; it would be read several times
    for path, said in ((tmp_path, "is a folder"), (tmp_path / "pipe", "once only"), ("", "'' does not exist")):
        with pytest.raises(ConfigError, match=said):
            config.read_file(path)
    assert config.read_file(os.devnull) == {}


def test_a_config_file_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    file = tmp_path / "tasks.cfg"
    file.write_text("[MyTask]\nn = 1\n", encoding="utf-8-sig")
    assert config.read_file(file) == {"MyTask": {"n": "1"}}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no TOML in this Python")
@pytest.mark.parametrize("content", ["n = 1\n", "[MyTask\n"])
def test_a_broken_toml_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tasks.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"tasks\.toml cannot be read"):
        config.read_file(file)
