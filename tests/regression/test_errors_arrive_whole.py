"""An error of another process arrives of its own class, with its own words, or as one that says the same."""

from __future__ import annotations

import asyncio
import copyreg
import json
import pickle
import subprocess
import urllib.error
from pathlib import Path
from typing import Any

import luigi
import pytest
from luigi.contrib.external_program import ExternalProgramTask

from superluigi import run_task
from superluigi.errors import RemoteError, TaskFailedError
from superluigi.execution.attempt import portable_error


class ByKeyword(Exception):  # noqa: N818
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class OwnWords(ValueError):  # noqa: N818
    """Python would call it again with its own words, and double them."""

    def __init__(self, what: str) -> None:
        super().__init__(f"there is no {what}")


class TakesArgs(RuntimeError):  # noqa: N818
    """As Luigi's ExternalProgramRunError: its attribute `args` is another thing than what it was called with."""

    def __init__(self, message: str, args: list[str]) -> None:
        super().__init__(message, args)
        self.message, self.args = message, tuple(args)

    def __str__(self) -> str:
        return f"{self.message}: {' '.join(self.args)}"


class Missing(FileNotFoundError):  # noqa: N818
    def __init__(self, name: str, hint: str) -> None:
        super().__init__(2, f"try {hint}", name)
        self.hint = hint


class Slotted(Exception):  # noqa: N818
    __slots__ = ("inner",)

    def __init__(self, inner: str, _: int) -> None:
        super().__init__()
        self.inner = inner

    def __str__(self) -> str:
        return self.inner


ERRORS: list[BaseException] = [
    ByKeyword(code=3),
    OwnWords("such thing"),
    TakesArgs("cannot start", ["ls", "-l"]),
    Missing("x.txt", "y.txt"),
    subprocess.CalledProcessError(3, ["false"], b"out"),
    json.JSONDecodeError("bad", "{", 1),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"),
    urllib.error.URLError("no host"),
    ImportError("none", name="x", path="y"),
    asyncio.IncompleteReadError(b"", 3),
    KeyError("a"),
    OSError(5, "io", "name"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_keeps_its_class_its_words_and_what_it_holds(error: Any) -> None:
    back: Any = pickle.loads(pickle.dumps(portable_error(error)))
    assert (type(back), str(back), back.args) == (type(error), str(error), error.args)
    assert {name: str(value) for name, value in vars(back).items()} == {
        name: str(value) for name, value in vars(error).items()
    }


def test_what_a_library_says_of_pickling_errors_is_not_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_arguments(_: UnicodeDecodeError) -> Any:
        return UnicodeDecodeError.__new__, (UnicodeDecodeError,)

    monkeypatch.setitem(copyreg.dispatch_table, UnicodeDecodeError, without_arguments)  # as tblib's
    error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why")
    back = pickle.loads(pickle.dumps(portable_error(error)))
    assert (type(back), str(back)) == (UnicodeDecodeError, str(error))


def test_one_whose_words_do_not_travel_is_told_by_its_words() -> None:
    back = pickle.loads(pickle.dumps(portable_error(Slotted("what it says", 1))))
    assert isinstance(back, RemoteError) and "Slotted: what it says" in str(back)


class Fails(ExternalProgramTask):  # type: ignore[misc]
    def program_args(self) -> list[str]:
        return ["sh", "-c", "echo so bad >&2; exit 3"]

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget("never.txt")


def test_a_program_that_fails_in_another_process_is_named_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskFailedError, match="COMMAND: sh -c echo so bad >&2; exit 3"):
        run_task(Fails(), executor="processes", quiet=True)
