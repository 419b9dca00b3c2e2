"""`python -m superluigi` is the `superluigi` command."""

from superluigi.cli import program

program()
