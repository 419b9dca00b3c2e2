"""A queue writes paths down in its database: where none can be, it says so before anything is submitted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from superluigi import Queue
from superluigi.errors import OptionError
from superluigi.queue.store.database import Database
from superluigi.queue.store.queue_url import url_of


@pytest.mark.parametrize("kind", ["path", "name", "server"])
def test_a_folder_whose_name_is_no_text_is_refused_with_advice(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    monkeypatch.setenv("SUPERLUIGI_QUEUE_DIR", str(folder))
    with pytest.raises(OptionError, match=r"no UTF-8.*SUPERLUIGI_QUEUE_DIR"):
        if kind == "server":
            database = object.__new__(Database)  # none that is asked: where its logs would be decides
            database.is_sqlite, database.url = False, url_of("postgresql://127.0.0.1:1/none")
            _ = database.logs
        else:
            Queue(str(folder / "jobs.sqlite") if kind == "path" else "jobs")
    assert not any(folder.iterdir())


@pytest.mark.parametrize("keep", [-1, 1.5, True])
def test_a_number_of_rows_that_none_can_have_is_refused(keep: object, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="keep"):
        Queue(str(tmp_path / "jobs.sqlite")).prune(keep=keep)  # type: ignore[arg-type]
