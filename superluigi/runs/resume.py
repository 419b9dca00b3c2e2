"""The memory of a forced run that has not ended well, so that `resume=True` can go on with it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from superluigi import config, graph
from superluigi.errors import OptionError
from superluigi.runs import force
from superluigi.runs.context import RunContext
from superluigi.runs.force import ForcePlan
from superluigi.storage import small_files
from superluigi.storage.base import parsed

_log = logging.getLogger(__name__)


class ForcedRunJournal:
    """A file in the workspace: id, start and plan of the last unfinished forced run of one root and set of options.

    The options and not the plan tell which run is meant: what the first half has made has new records, from which
    another plan may follow. What it made without leaving records is kept in a second file, a line for each task.
    """

    def __init__(self, root_id: str, plan: ForcePlan, options: Mapping[str, object]) -> None:
        self._root = root_id
        key = graph.digest([root_id, plan.everything, force.option_key(options)])[:24]
        self._plan = plan
        self._lines: io.FileIO | None = None
        self._path = Path(config.get("workspace")) / "forced" / f"{key}.json"

    def resumed(self, run: RunContext) -> RunContext:
        """`run` with identity and plan of the unfinished one: what that one has made already counts as made.

        Raises:
            OptionError: nothing is forced, so there is nothing to resume.
        """
        if not self._plan:
            raise OptionError("resume=True goes with one of the force options: it goes on with that forced run.")
        try:
            known = parsed(small_files.read(self._path))
            self._plan = replace(
                self._plan,
                ids=self._plan.ids.union(known["ids"]),
                families=self._plan.families.union(known["families"]),
            )
            run = replace(run, id=known["id"], started=datetime.fromisoformat(known["started"]), plan=self._plan)
            with contextlib.suppress(FileNotFoundError):
                made = small_files.read(self._journal(run)).decode().split()
                run = replace(run, made_before=frozenset(made))
            return run
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return run  # it ended well, or never began: a forced run like any other

    @contextlib.contextmanager
    def kept(self, run: RunContext) -> Iterator[None]:
        """Remember a forced run from its beginning until the block ends without an error."""
        if not self._plan:
            yield
            return
        journal = self._journal(run)
        with contextlib.ExitStack() as stack:
            with _told("another run cannot resume this forced one"):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                whole = {"ids": sorted(self._plan.ids), "families": sorted(self._plan.families)}
                text = json.dumps({"id": run.id, "started": run.started.isoformat(), "root": self._root, **whole})
                self._path.write_text(text, encoding="utf-8")
                for other in self._path.parent.glob(f"{self._path.stem}-*.made"):
                    if other != journal:
                        other.unlink(missing_ok=True)
                self._lines = stack.enter_context(journal.open("ab", buffering=0))
            yield
        with _told("a later forced run with resume=True may take this one, which ended well, for unfinished"):
            journal.unlink(missing_ok=True)
            if self._is_of(run):
                self._path.unlink(missing_ok=True)

    def remember(self, task_id: str) -> None:
        """A forced task that leaves no record has been made."""
        if self._lines is not None:
            with _told(f"another run that resumes this forced one makes {task_id} again"):
                self._lines.write(f"{task_id}\n".encode())

    def _journal(self, run: RunContext) -> Path:
        return self._path.with_name(f"{self._path.stem}-{run.id}.made")

    def _is_of(self, run: RunContext) -> bool:
        """Whether the memory is still of `run`: another one may have begun since."""
        try:
            return bool(parsed(small_files.read(self._path))["id"] == run.id)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return False


@contextlib.contextmanager
def _told(consequence: str) -> Iterator[None]:
    """A memory that cannot be kept fails no task: the tasks' outputs are what counts."""
    try:
        yield
    except OSError as error:
        _log.warning(
            "The memory of this forced run cannot be kept (%s), so %s. SUPERLUIGI_WORKSPACE names its folder.",
            error, consequence,
        )  # fmt: skip
