"""Whether many S3 outputs are there: one listing per 1,000 keys where that is cheaper than asking for each."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Sequence

from superluigi.errors import StorageAccessError
from superluigi.storage.base import Location
from superluigi.storage.objects.location import S3Location
from superluigi.storage.objects.object import ObjectLocation
from superluigi.storage.objects.store import in_threads

#: A listing is given up when it has read this many keys for each key that is asked for.
_KEYS_PER_QUESTION = 20
_PAGE = 1000
#: Fewer questions than this about one folder are asked one by one, at once.
_LEAST = 8


def exists_many(locations: Sequence[Location]) -> list[bool]:
    """`exists()` of each location, in order; asks the store as seldom as it can, and about a key only once.

    Raises:
        what `exists()` of one of them raises.
    """
    answers: dict[int, bool] = {}
    folders: dict[tuple[object, str, str], list[int]] = defaultdict(list)
    alone: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, location in enumerate(locations):
        if isinstance(location, ObjectLocation) and not location.place.get_options:
            place = location.place
            folders[place.options, place.bucket, place.key.rpartition("/")[0]].append(number)
        else:
            alone[_question(location, number)].append(number)
    for numbers in folders.values():
        rest = numbers
        if len(numbers) >= _LEAST:
            found = _by_listing([location for n in numbers if isinstance(location := locations[n], ObjectLocation)])
            answers |= {number: there for number, there in zip(numbers, found, strict=True) if there is not None}
            rest = [number for number in numbers if number not in answers]
        for number in rest:
            alone[_question(locations[number], number)].append(number)
    asked = in_threads(lambda numbers: (numbers, locations[numbers[0]].exists()), alone.values(), 32)
    answers |= {number: there for numbers, there in asked for number in numbers}
    return [answers[number] for number in range(len(locations))]


def _question(location: Location, number: int) -> tuple[object, ...]:
    if isinstance(location, S3Location):
        return (location.place.options, location.uri, location.record_uri, location.external)
    return (number,)


def _by_listing(locations: Sequence[ObjectLocation]) -> list[bool | None]:
    """True or False where a listing of what the keys have in common told; None where it was given up."""
    first = locations[0].pinned()
    s3 = first.s3
    wanted = sorted({location.place.key for location in locations})
    prefix = os.path.commonprefix(wanted)  # noqa: RUF071  # character by character is what S3 wants
    most = max(_PAGE, len(wanted) * _KEYS_PER_QUESTION)
    seen: set[str] = set()
    last, whole, in_order = "", False, s3.in_order
    start = wanted[0][:-1] if in_order and wanted[0] != prefix else ""
    with contextlib.suppress(StorageAccessError):  # who may read but not list asks for each
        for count, item in enumerate(
            s3.list(first.place.bucket, prefix, {}, start_after=start, names_only=True), start=1
        ):
            seen.add(item.key)
            if in_order:
                last = item.key
                whole = last >= wanted[-1]
            if whole or count >= most:
                break
        else:
            whole = True
    answers: list[bool | None] = []
    for location in locations:
        key = location.place.key
        if key in seen:
            location.forget_looks(s3)
            answers.append(True)
        elif (whole or key < last) and not location.external:
            location.saw_nothing(s3)  # a commit that begins now need not look again
            answers.append(False)
        else:
            answers.append(None)  # not reached; or absent and external: then its kind is looked at
    return answers
