"""Remove what processes that died left behind.

Unfinished outputs, temporary copies and half-done commits below a folder, or below an S3 prefix, are removed if the
process that made them ran on this host and no longer runs. On S3, multipart uploads older than --older-than hours
are aborted too. Whole outputs and their records are never touched.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from superluigi.cli import _output
from superluigi.cli._parser import Parser
from superluigi.terminal import say

if TYPE_CHECKING:
    from superluigi.storage.cleaning import Leftover

EXAMPLE = "superluigi clean data/\nsuperluigi clean s3://my-bucket/data/ --dry-run"


def configure(parser: Parser) -> None:
    parser.add_argument("place", metavar="PATH|s3://…", help="a folder, a file in it, or an S3 address")
    parser.add_argument("--dry-run", action="store_true", help="only list what would be removed")
    parser.add_argument(
        "--older-than", type=float, default=24.0, metavar="HOURS", help="age of multipart uploads to abort (24)"
    )
    _output.json_option(parser)


def main(args: argparse.Namespace) -> int:
    found = _clean(args.place, args.dry_run, args.older_than)
    if args.json:
        _output.print_json([{"path": item.path, "what": item.what, "size": item.size} for item in found])
        return 0
    for item in found:
        say(f"{'would remove' if args.dry_run else 'removed'} {item.what} {item.path} ({item.size:,} bytes)")
    if not found:
        say(f"nothing to clean in {args.place}")
    return 0


def _clean(place: str, dry_run: bool, hours: float) -> list[Leftover]:
    if place.startswith("s3://"):
        from superluigi.storage.s3_cleaning import clean as clean_s3

        return clean_s3(place, older_than=timedelta(hours=hours), dry_run=dry_run)
    from superluigi.storage.cleaning import clean

    return clean(Path(place).expanduser(), dry_run=dry_run)
