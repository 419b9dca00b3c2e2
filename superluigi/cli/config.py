"""Print every setting: the value in force, where it comes from, and what it means.

A value comes from its environment variable, else from section [superluigi] of Luigi's configuration, else from its
default. Unknown keys in that section and unknown SUPERLUIGI_ variables are errors, for they would do nothing.
"""

from __future__ import annotations

import argparse
import os

from superluigi import config
from superluigi.cli._output import json_option, print_json, table
from superluigi.cli._parser import Parser
from superluigi.cli._tasks import config_option, read_config
from superluigi.errors import ConfigError

EXAMPLE = """
superluigi config
superluigi config --json store
"""


def configure(parser: Parser) -> None:
    """Names of settings, `--config` and `--json`."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="these settings only (default: all)")
    config_option(parser)
    json_option(parser)


def main(args: argparse.Namespace) -> int:
    """Print the settings asked for."""
    read_config(args.config)
    rows = [_row(name) for name in args.names or config.SETTINGS]
    known = {setting.variable for setting in config.SETTINGS.values()}
    for name in sorted(os.environ):
        if name.startswith("SUPERLUIGI_") and not name.startswith(_NO_SETTINGS) and name not in known:
            raise ConfigError(f"The environment variable {name} is no setting.{config.suggestion(name, known)}")
    if args.json:
        print_json(rows)
        return 0
    names = ("name", "value", "from", "means")
    table(["setting", *names[1:]], [[_shown(row[name]) for name in names] for row in rows])
    return 0


def _shown(value: object) -> str:
    """A value as one reads it: paths below the home folder begin with `~`."""
    home = os.path.join(os.path.expanduser("~"), "")
    text = str(value)
    return f"~/{text.removeprefix(home)}" if text.startswith(home) else text


def _row(name: str) -> dict[str, object]:
    value, origin = config.lookup(name)
    setting = config.SETTINGS[name]
    return {
        "name": name,
        "value": value if isinstance(value, (bool, int, float, type(None))) else str(value),
        "from": origin,
        "variable": setting.variable,
        "default": setting.default,
        "means": setting.help,
    }


#: Variables by which our processes tell each other something.
_NO_SETTINGS = ("SUPERLUIGI_TEST_", "SUPERLUIGI_DEADLINE", "SUPERLUIGI_QUEUE_URL", "SUPERLUIGI_QUEUE_CHILD",
                "SUPERLUIGI_STAY")  # fmt: skip
