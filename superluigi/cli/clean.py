"""Remove what processes that died left behind.

Unfinished outputs, temporary copies and half-done commits below a folder, or below an S3 prefix, are removed if the
process that made them ran on this host since it was started, and no longer runs. What other hosts, containers and
earlier boots left may be in use: it is listed, and removed only if it is older than --older-than hours. On S3,
multipart uploads of that age (24, if not given) are aborted too. Whole outputs and their records are never touched.
What cannot be removed is listed with the reason, the rest is removed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from superluigi.cli import _output
from superluigi.cli._parser import Parser, span
from superluigi.setting_texts import at_home
from superluigi.terminal import say

if TYPE_CHECKING:
    from superluigi.storage.local.cleanup import Orphan

EXAMPLE = "superluigi clean data/\nsuperluigi clean s3://my-bucket/data/ --dry-run"


def configure(parser: Parser) -> None:
    parser.add_argument("address", metavar="PATH|s3://…", help="a folder, a file in it, or an S3 address")
    parser.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    parser.add_argument(
        "--older-than",
        type=span("hours"),
        metavar="HOURS",
        help="from this age on, what other hosts left counts as dead (on S3: 24)",
    )
    _output.json_option(parser)


def main(args: argparse.Namespace) -> int:
    found = []
    for item in _swept(args.address, args.dry_run, args.older_than):
        found.append(item)
        if not args.json:  # at once: what is gone has been told, should this one be interrupted
            did = "kept" if item.kept else "would remove" if args.dry_run else "removed"
            say(f"{did} {item.what} {item.path} ({item.size:,} bytes)" + (f": {item.kept}" if item.kept else ""))
    if args.json:
        _output.print_json(
            [{"path": item.path, "what": item.what, "size": item.size, "kept": item.kept} for item in found]
        )
    elif not found:
        say(f"nothing to clean in {args.address}")
    return 1 if any(item.kept and not item.in_doubt for item in found) else 0


def _swept(address: str, dry_run: bool, hours: float | None) -> Iterator[Orphan]:
    """What is removed, would not go, or is left to others."""
    if address.startswith("s3://"):
        from superluigi.storage.objects.cleanup import swept as swept_s3

        return swept_s3(address, older_than=timedelta(hours=24 if hours is None else hours), dry_run=dry_run)
    from superluigi.storage.local.cleanup import swept

    return swept(at_home(address), dry_run=dry_run, older_than=None if hours is None else timedelta(hours=hours))
