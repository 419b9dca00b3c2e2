"""Which functions a task's code is made of, short enough for a record, and which of them changed since.

A record lists single parts (`helpers.fit`: eight hex digits). Above `MAX_PARTS`, those of one class or module are
told together: `helpers.*`: four digits for each member, in the order of their names. The names are not there, but
the code of today has them, and so a later comparison still says which function changed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

MAX_PARTS = 24
_SHORT, _MEMBER = 8, 4
#: A larger group is told by one digest (after a `#`), so that records stay small.
_MAX_MEMBERS = 100

Parts = Mapping[str, str]


def shortened(parts: Parts) -> dict[str, str]:
    """Digests of parts as a record keeps them."""
    if len(parts) <= MAX_PARTS:
        return {name: digest[:_SHORT] for name, digest in parts.items()}
    groups: dict[str, dict[str, str]] = {}
    for name, digest in parts.items():
        groups.setdefault(name.rpartition(".")[0], {})[name] = digest
    loose = groups.pop("", {})
    found = dict(loose)
    for group, members in groups.items():
        found.update({f"{group}.*": _together(members)} if len(members) > 1 else members)
    if len(found) > MAX_PARTS:
        found = {"*": _together(parts)}
    return {name: digest if name.endswith("*") else digest[:_SHORT] for name, digest in sorted(found.items())}


def changed(before: Parts, after: Parts) -> list[str]:
    """What differs, as words: `clean changed`, `helpers.fit added`. Best with all parts of today as `after`."""
    words: list[str] = []
    old, new = dict(before), {name: digest[:_SHORT] if "*" not in name else digest for name, digest in after.items()}
    for one, other, gone in ((old, new, "removed"), (new, old, "added")):
        for group in [name for name in one if name.endswith("*") and name not in other]:
            among = [name for name in other if group == "*" or name.rpartition(".")[0] == group[:-2]]
            members = {name: other[name] for name in among if name not in one}
            if members:
                words += _within(group, one.pop(group), members, gone)
                for name in members:
                    del other[name]
    for name in old.keys() | new.keys():
        if old.get(name) != new.get(name):
            words.append(f"{name} {'removed' if name not in new else 'added' if name not in old else 'changed'}")
    return sorted(words)


def _within(group: str, told: str, members: Parts, gone: str) -> list[str]:
    """What differs between a group that is told together and its members: those whose digits it does not have."""
    if told.startswith("#"):
        return [] if told == _together(members) else [f"{group} changed"]
    known = Counter(told[at : at + _MEMBER] for at in range(0, len(told), _MEMBER))
    unknown = []
    for name, digest in sorted(members.items()):
        if known[digest[:_MEMBER]] > 0:
            known[digest[:_MEMBER]] -= 1
        else:
            unknown.append(name)
    missing = known.total()
    if not unknown:
        return [f"{group} {gone}: {missing}"] if missing else []
    opposite = "added" if gone == "removed" else "removed"
    return [f"{name} {'changed' if missing else opposite}" for name in unknown]


def _together(members: Parts) -> str:
    digits = "".join(digest[:_MEMBER] for _, digest in sorted(members.items()))
    if len(members) <= _MAX_MEMBERS:
        return digits
    named = "".join(f"{name} {digest[:_SHORT]}\n" for name, digest in sorted(members.items()))
    return "#" + hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:_SHORT]
