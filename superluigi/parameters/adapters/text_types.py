"""Types that are written as one text each: dates, times, time zones, durations, paths, decimals, bytes."""

from __future__ import annotations

import base64
import datetime
import decimal
import uuid
import zoneinfo
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import luigi

from superluigi.parameters.adapters.basic import RefusalError, TextAdapter


def _date(value: object) -> object:
    return datetime.date(value.year, value.month, value.day) if isinstance(value, datetime.date) else value


def _path(value: object) -> object:
    if isinstance(value, PurePath) and not isinstance(value, type(PurePath())):
        raise RefusalError(f"a path of this system, which a {type(value).__name__} is not; write str(path)")
    return Path(value) if isinstance(value, (str, PurePath)) else value


def _moment(value: object) -> object:
    """A plain datetime; of its time zone only what the text can say stays, or it is refused."""
    if hasattr(value, "to_pydatetime"):
        _whole_microseconds(value)
        value = value.to_pydatetime()
    if not isinstance(value, datetime.datetime):
        return value
    plain = datetime.datetime(
        *(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond),
        tzinfo=_time_zone(value.tzinfo, value),
        fold=value.fold,
    )
    if plain.fold and isinstance(plain.tzinfo, zoneinfo.ZoneInfo):
        first = plain.replace(fold=0)
        return first if first.utcoffset() == plain.utcoffset() else plain
    return _without_fold(plain)


def _clock(value: object) -> object:
    if not isinstance(value, datetime.time):
        return value
    zone = _time_zone(value.tzinfo, None)
    plain = datetime.time(value.hour, value.minute, value.second, value.microsecond, tzinfo=zone, fold=value.fold)
    return _without_fold(plain)


def _without_fold(value: Any) -> object:
    if value.fold and value.tzinfo is None:
        raise RefusalError(f"a {type(value).__name__} whose fold says something: give it a time zone, or fold=0")
    return value.replace(fold=0)


def _time_zone(zone: Any, at: object) -> Any:
    if zone is None:
        return None
    key = getattr(zone, "key", None) if isinstance(zone, zoneinfo.ZoneInfo) else getattr(zone, "zone", None)
    if isinstance(key, str):  # a ZoneInfo, or one of pytz
        return zoneinfo.ZoneInfo(key)
    if type(zone) is datetime.timezone or (hasattr(zone, "zone") and key is None):  # an offset, of pytz too
        return datetime.timezone(zone.utcoffset(at))
    raise RefusalError(f"a time zone that is a zoneinfo.ZoneInfo or a datetime.timezone, not a {type(zone).__name__}")


def _timed(value: Any) -> str:
    """ISO 8601; a time zone that has a name follows in brackets (RFC 9557)."""
    zone = f"[{value.tzinfo.key}]" if isinstance(value.tzinfo, zoneinfo.ZoneInfo) else ""
    return f"{value.isoformat()}{zone}"


def _reads_timed(kind: Any) -> Callable[[str], object]:
    def read(text: str) -> object:
        written, bracket, rest = text.partition("[")
        value = kind.fromisoformat(written)
        if not bracket:
            return value
        found = value.replace(tzinfo=_zone(rest.removesuffix("]")))
        if kind is datetime.time or value.tzinfo is None or found.utcoffset() == value.utcoffset():
            return found
        found = found.replace(fold=1)
        if found.utcoffset() != value.utcoffset():
            raise ValueError(f"a moment that is there: {written} is none in the time zone {rest.removesuffix(']')}")
        return found

    return read


def _zone(key: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(key)
    except (zoneinfo.ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(f"a time zone that is known here, which {key!r} is not") from error


def _delta(value: Any) -> object:
    if hasattr(value, "to_pytimedelta"):
        _whole_microseconds(value)
        return value.to_pytimedelta()
    is_delta = isinstance(value, datetime.timedelta)
    return datetime.timedelta(value.days, value.seconds, value.microseconds) if is_delta else value


def _whole_microseconds(value: object) -> None:
    """Refuse pandas' nanoseconds, which Python's own types would lose."""
    if getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0):
        raise RefusalError(f"whole microseconds, but it has nanoseconds: {value}")


def _exactly(kind: Any) -> Callable[[object], object]:
    """Of classes derived from `kind`, only what `kind` knows stays."""

    def exact(value: object) -> object:
        return kind(value) if isinstance(value, kind) and type(value) is not kind else value

    return exact


def _decimal(value: object) -> object:
    if isinstance(value, decimal.Decimal) and value.is_snan():
        raise RefusalError("a Decimal that can be compared, which a signalling NaN cannot")
    return _exactly(decimal.Decimal)(value)


def _seconds(value: datetime.timedelta) -> str:
    return f"{value // datetime.timedelta(microseconds=1)} us"


def _duration(text: str) -> datetime.timedelta:
    if text.endswith(" us"):
        return datetime.timedelta(microseconds=int(text.removesuffix(" us")))
    parsed: datetime.timedelta = luigi.TimeDeltaParameter().parse(text)
    return parsed


#: Types that are written as text; a datetime before a date, since it is one.
TEXTS: dict[type, TextAdapter] = {
    datetime.datetime: TextAdapter(datetime.datetime, _timed, _reads_timed(datetime.datetime), _moment),
    datetime.date: TextAdapter(datetime.date, datetime.date.isoformat, datetime.date.fromisoformat, _date),
    datetime.time: TextAdapter(datetime.time, _timed, _reads_timed(datetime.time), _clock),
    datetime.timedelta: TextAdapter(datetime.timedelta, _seconds, _duration, _delta),
    zoneinfo.ZoneInfo: TextAdapter(
        zoneinfo.ZoneInfo,
        lambda zone: str(zone.key),
        _zone,
        lambda value: zoneinfo.ZoneInfo(value.key) if isinstance(value, zoneinfo.ZoneInfo) and value.key else None,
    ),
    PurePath: TextAdapter(PurePath, str, Path, _path),
    Path: TextAdapter(Path, str, Path, _path),
    decimal.Decimal: TextAdapter(decimal.Decimal, str, decimal.Decimal, _decimal),
    uuid.UUID: TextAdapter(uuid.UUID, str, uuid.UUID, lambda value: value),
    bytes: TextAdapter(
        bytes,
        lambda value: base64.b64encode(value).decode(),
        lambda text: base64.b64decode(text, validate=True),
        _exactly(bytes),
    ),
    luigi.date_interval.DateInterval: TextAdapter(
        luigi.date_interval.DateInterval, str, luigi.DateIntervalParameter().parse, lambda it: it, sure=False
    ),
}
