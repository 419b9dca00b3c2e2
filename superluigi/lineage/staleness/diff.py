"""What differs between two outputs: in their own records, and in the histories that led to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from superluigi.arguments import guarded
from superluigi.lineage.code_fingerprint import code_parts
from superluigi.lineage.records import comparing
from superluigi.lineage.records.resolve import Place
from superluigi.lineage.records.trace import Trace, trace
from superluigi.storage.base import Record
from superluigi.targets.addresses import hint_for_path

ONLY_FIRST, ONLY_SECOND = "only in the first", "only in the second"


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same."""

    #: The task family, or the address of data without a record.
    subject: str
    #: `parameter`, `code`, `input`, `package`, `python`, `content` or `task`.
    kind: str
    name: str
    first: Any
    second: Any

    def as_json(self) -> dict[str, Any]:
        """Plain values, for scripts."""
        return dict(self.__dict__)

    def __str__(self) -> str:
        if self.kind == "code":
            return f"{self.subject}: code: {self.name}"
        return f"{self.subject}: {self.kind} {self.name}: {_brief(self.first)} -> {_brief(self.second)}"


@guarded(hint=hint_for_path)
def diff(first: Place, second: Place) -> list[Difference]:
    """What differs between the histories of two outputs (paths, addresses or targets); empty if nothing does.

    Ancestors are paired by task family (several of one family by their parameters), sources without a
    record by their address. Times, hosts and run ids always differ and are not told.

    Raises:
        TargetMissingError: one of the outputs does not exist.
    """
    traces = trace(first), trace(second)
    found: list[Difference] = []
    for one, other in _pairs(*traces):
        if one is None or other is None:
            present = one or other or {}
            found.append(_alone(present, first_has_it=one is not None))
        elif _family(one) is None:
            if comparing.differs(one, other):
                found.append(Difference(str(one["path"]), "input", "content", _digest(one), _digest(other)))
        else:
            found += _records(one, other)
    return found


def _alone(node: Record, *, first_has_it: bool) -> Difference:
    subject = _family(node) or str(node.get("path"))
    kind = "task" if _family(node) else "input"
    told = _params(node) or "present"
    where = (told, None) if first_has_it else (None, told)
    return Difference(subject, kind, ONLY_FIRST if first_has_it else ONLY_SECOND, *where)


def _records(one: Record, other: Record) -> list[Difference]:
    subject = str(_family(one))
    found = [Difference(subject, "parameter", *item) for item in _items(one.get("params"), other.get("params"))]
    code_one, code_other = one.get("code") or {}, other.get("code") or {}
    if code_one.get("digest") != code_other.get("digest"):
        words = code_parts.changed(code_one.get("parts") or {}, code_other.get("parts") or {}) or ["changed"]
        found += [Difference(subject, "code", word, code_one.get("commit"), code_other.get("commit")) for word in words]
    here, there = one.get("environment") or {}, other.get("environment") or {}
    if here.get("python") != there.get("python"):
        found.append(Difference(subject, "python", "version", here.get("python"), there.get("python")))
    found += [Difference(subject, "package", *item) for item in _items(here.get("packages"), there.get("packages"))]
    if comparing.differs(one.get("output") or {}, other.get("output") or {}):
        found.append(Difference(subject, "content", "of the output", _content(one), _content(other)))
    return found


def _items(
    one: Mapping[str, object] | None, other: Mapping[str, object] | None
) -> Iterable[tuple[str, object, object]]:
    one, other = one or {}, other or {}
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            yield name, one.get(name), other.get(name)


def _pairs(one: Trace, other: Trace) -> list[tuple[Record | None, Record | None]]:
    """The nodes of both histories side by side, from the outputs back; None where one has no partner."""
    groups: dict[str, tuple[list[Record], list[Record]]] = {}
    for side, history in enumerate((one, other)):
        for address, node in history.nodes.items():
            name = _family(node) or address
            described = node if _family(node) else {"path": address, **node}
            groups.setdefault(name, ([], []))[side].append(described)
    found: list[tuple[Record | None, Record | None]] = []
    for left, right in groups.values():
        found += _partners(left, right)
    return found


def _partners(left: list[Record], right: list[Record]) -> list[tuple[Record | None, Record | None]]:
    found: list[tuple[Record | None, Record | None]] = []
    right = list(right)
    rest = []
    for node in left:  # first those with the same parameters and place, so that the odd ones are left over
        same = next((one for one in right if _params(one) == _params(node) and _place(one) == _place(node)), None)
        same = same or next((one for one in right if _params(one) == _params(node)), None)
        if same is None:
            rest.append(node)
        else:
            right.remove(same)
            found.append((node, same))
    while rest or right:
        found.append((rest.pop(0) if rest else None, right.pop(0) if right else None))
    return found


def _family(node: Record) -> str | None:
    return node.get("task_family")


def _params(node: Record) -> object:
    return node.get("params")


def _place(node: Record) -> object:
    return (node.get("output") or {}).get("path")


def _content(record: Record) -> object:
    return _digest(record.get("output") or {})


def _digest(description: Mapping[str, object]) -> object:
    digest = description.get("digest")
    value = next(iter(digest.values())) if isinstance(digest, Mapping) and digest else description.get("etag")
    return str(value)[:16] if value else None


def _brief(value: object) -> str:
    return "nothing" if value is None else str(value)
