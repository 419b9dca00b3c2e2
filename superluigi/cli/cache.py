"""Look after the local copies of S3 data: info, list, prune, verify, clear.

Copies lie in `local_data_dir` and can always be removed: what is needed again is fetched again. Copies that are in
use at the moment stay. `prune` brings them down to a size, or to those used lately; `verify` reads every copy
and drops those that are not what they were.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from superluigi.cli import _output
from superluigi.cli._parser import Parser, span
from superluigi.terminal import Part, say

if TYPE_CHECKING:
    from superluigi.storage.cache.cache import Cache, Info

EXAMPLE = "superluigi cache info\nsuperluigi cache prune --to 20GB --unused-for 30\nsuperluigi cache clear --yes"


def configure(parser: Parser) -> None:
    parser.add_argument("action", choices=("info", "list", "prune", "verify", "clear"), help="what to do")
    parser.add_argument("--to", metavar="SIZE", help="prune: keep this much at most (20GB, 500MiB)")
    parser.add_argument(
        "--unused-for", type=span("days"), metavar="DAYS", help="prune: drop what was not used for so long"
    )
    _output.yes_option(parser)
    _output.json_option(parser)


def main(args: argparse.Namespace) -> int:
    from superluigi import config
    from superluigi.storage.cache.cache import Cache

    cache = Cache(config.get("local_data_dir"))
    if args.action == "info":
        return _info(cache, args.json)
    if args.action == "list":
        return _list(cache, args.json)
    if args.action == "verify":
        return _verify(cache, args.json)
    return _remove(cache, args)


def human(size: int) -> str:
    """`1.5 GB`: a size in units of 1000."""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB", "PB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def _info(cache: Cache, as_json: bool) -> int:
    entries = cache.entries()
    facts = {
        "folder": str(cache.root),
        "entries": len(entries),
        "size": sum(info.size for info in entries),
        "limit": cache.limit_bytes,
        "min_free": cache.min_free_bytes,
    }
    if as_json:
        _output.print_json(facts)
        return 0
    limit = "none" if cache.limit_bytes is None else human(cache.limit_bytes)
    say(f"folder   {cache.root}\nentries  {len(entries)}\nsize     {human(sum(info.size for info in entries))}")
    say(f"limit    {limit}\nleaves   {human(cache.min_free_bytes)} of the disk free")
    return 0


def _list(cache: Cache, as_json: bool) -> int:
    entries = cache.entries()
    if as_json:
        _output.print_json([_facts(info) for info in entries])
        return 0
    rows = [[human(one.size), time.strftime("%Y-%m-%d %H:%M", time.localtime(one.used)), one.uri] for one in entries]
    if rows:
        _output.table(["size", "last used", "copy of"], rows, right=[0])
    else:
        say(f"no local copies in {cache.root}", err=True)
    return 0


def _facts(info: Info) -> dict[str, object]:
    return {"uri": info.uri, "path": str(info.path), "size": info.size, "used": info.used}


def _verify(cache: Cache, as_json: bool) -> int:
    """Exit code 1 if a copy was wrong; it is dropped, so that the next reader fetches it again."""
    found = [(info, fault) for info, fault in cache.verify()]
    for info, fault in found:
        if fault:
            cache.evict(info)
    if as_json:
        _output.print_json([{**_facts(info), "fault": fault or None} for info, fault in found])
    elif found:
        rows: list[list[Part]] = [[(fault or "ok", "red" if fault else "green"), info.uri] for info, fault in found]
        _output.table(["state", "copy of"], rows)
    else:
        say(f"no local copies in {cache.root}", err=True)
    return 1 if any(fault for _, fault in found) else 0


def _remove(cache: Cache, args: argparse.Namespace) -> int:
    from superluigi.errors import OptionError

    if args.action == "clear":
        entries = cache.entries()
        size = human(sum(info.size for info in entries))
        if entries and not _output.confirmed(f"remove {len(entries)} local copies ({size})", yes=args.yes):
            return 1
        freed = cache.clear()
    else:
        if args.to is None and args.unused_for is None and cache.limit_bytes is None:
            raise OptionError("Say what to prune: --to SIZE or --unused-for DAYS, or set cache_limit_bytes.")
        limit = cache.limit_bytes if args.to is None else _size(args.to)
        older = None if args.unused_for is None else time.time() - args.unused_for * 86_400
        freed = cache.prune(limit if args.unused_for is None or args.to else None, older)
    if args.json:
        _output.print_json({"freed": freed})
    else:
        say(f"freed {human(freed)}")
    return 0


def _size(text: str) -> int | None:
    from superluigi.config import SETTINGS
    from superluigi.errors import OptionError

    try:
        size: int | None = SETTINGS["cache_limit_bytes"].parse(text)
    except ValueError as error:
        raise OptionError(f"--to {text!r} cannot be read: {error}.") from error
    return size
