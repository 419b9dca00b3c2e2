"""A failure in words: where it happens, and at the end of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from superluigi.runs import tracebacks
from superluigi.runs.report import Failure, said, shortened
from superluigi.terminal import from_here, visible

#: So many failures of one family and kind of error are told with their frames; the others in a line each.
_IN_FULL = 3
_FRAMES = 5
_CODE_WIDTH = 60


class Teller:
    """Tells failures of one run as they happen, each once."""

    def __init__(self) -> None:
        self._told: Counter[tuple[str, type[BaseException]]] = Counter()

    def text(self, failure: Failure, again: bool = False) -> str:
        """Task and error; with the user's own frames and the file of the log, unless that is what many say."""
        alike = failure.family, type(failure.error)
        self._told[alike] += 1
        end = ", and will be tried again" if again else ""
        first = f"{visible(failure.task, one_line=True)} failed{end}: {shortened(said(failure.error))}"
        return "\n".join([first, *(_places(failure) if self._told[alike] <= _IN_FULL else ())])


def _places(failure: Failure) -> Iterator[str]:
    frames = tracebacks.users_frames(failure.traceback)
    for frame in frames[-_FRAMES:]:
        code = f": {shortened(frame.code, _CODE_WIDTH)}" if frame.code else ""
        yield f"    {from_here(frame.file)}:{frame.line} in {frame.function}{code}"
    if failure.log_file:
        yield f"    log: {failure.log_file}"
