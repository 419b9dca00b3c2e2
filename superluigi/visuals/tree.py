"""A graph as text: a tree from one task down to what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from superluigi.lineage.staleness import reasons
from superluigi.lineage.staleness.reasons import Reason
from superluigi.lineage.staleness.why import Explanation
from superluigi.terminal import below_branch, cut_middle

#: Deeper levels are not indented any more: a chain of 10,000 tasks would be 200 MB of blanks.
WIDEST = 120

#: So many lines are drawn of what a run would do, and so many characters of a task's name.
LISTED, _LONGEST_NAME = 100, 300

COMPLETE, WOULD_RUN, FORCED, MISSING, NOT_NEEDED = "complete", "would run", "forced", "missing external", "not needed"


def lines(nodes: Mapping[str, Mapping[str, Any]], root: str) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Lines from the root down: the branches before it, the task, and whether its own needs were shown before."""
    shown: set[str] = set()
    waiting = [(root, "", "")]
    while waiting:
        task_id, prefix, branch = waiting.pop()
        node = nodes[task_id]
        again = task_id in shown and bool(node["requires"])
        shown.add(task_id)
        yield prefix + branch, node, again
        needs = [] if again else list(dict.fromkeys(node["requires"]))  # what is listed twice is drawn once
        inner = prefix + (below_branch(branch) if len(prefix) < WIDEST else "")
        waiting.extend((one, inner, "└── " if one == needs[-1] else "├── ") for one in reversed(needs))


def of_dry_run(explained: Sequence[Explanation]) -> str:
    """The tree of what a run would do with each task, and how many tasks of each state there are."""
    told = {one.task_id: {**one.as_json(), "word": _word(one), "task": one.task} for one in explained}
    text: list[str] = []
    for prefix, one, again in lines(told, explained[-1].task_id):
        why = "" if one["word"] != WOULD_RUN else f": {Reason(one['reason'], one['detail'])}"
        if len(text) == LISTED:
            text.append(
                "and more; `superluigi why … --all` lists each task, and run_task(…, dry_run=True) returns them"
            )
            break
        text.append(
            f"{prefix}{cut_middle(str(one['task']), _LONGEST_NAME)}  {one['word']}{' (see above)' if again else why}"
        )
    words = [one["word"] for one in told.values()]
    counts = {word: words.count(word) for word in (WOULD_RUN, FORCED, COMPLETE, MISSING, NOT_NEEDED)}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return "\n".join([*text, f"{len(told)} tasks: {said}"])


def _word(one: Explanation) -> str:
    if one.runs:
        return FORCED if one.reason == reasons.FORCED else WOULD_RUN
    if one.state == "missing":
        return MISSING if one.external else NOT_NEEDED
    return COMPLETE
