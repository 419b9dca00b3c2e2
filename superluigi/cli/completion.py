"""Print what makes your shell complete superluigi's commands, options, tasks and parameters.

Add the line of the example to the start-up file of your shell. Completing a task or its parameters imports the module
that is named before it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path

from superluigi.cli._parser import Parser, UsageError
from superluigi.errors import SuperLuigiError
from superluigi.terminal import say, visible

EXAMPLE = """
eval "$(superluigi completion bash)"
eval "$(superluigi completion zsh)"
superluigi completion fish | source
"""

#: What a shell runs at the press of the key; it gets the words so far, the last one unfinished.
SHELLS = {
    # each candidate as the shell would have to be given it: a file or task may be called `$(…)`, or have blanks
    "bash": r"""_superluigi() {
    local word words=("${COMP_WORDS[@]:1:COMP_CWORD}") quotes=$'[\\\\"\']'
    COMPREPLY=()
    while IFS= read -r word; do
        printf -v word %q "$word"
        COMPREPLY+=("$word")
    done < <(superluigi completion words -- "${words[@]//$quotes/}" 2>/dev/null)
}
complete -o default -F _superluigi superluigi""",
    "zsh": """_superluigi() {
    local -a found
    found=("${(@f)$(superluigi completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    [[ -n "${found[1]}" ]] && compadd -a found || _files
}
compdef _superluigi superluigi""",
    "fish": """complete -c superluigi -a \
'(superluigi completion words -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'""",
}


def configure(parser: Parser) -> None:
    """The shell; and, for the shell itself, the words so far."""
    parser.add_argument("shell", choices=(*SHELLS, "words"), metavar="SHELL", help="bash, zsh or fish")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.extend = _so_far


def _so_far(parser: Parser, words: list[str]) -> list[str]:
    """The words of the other command are taken as they are: argparse would drop a `--` among them."""
    if words[:2] == ["words", "--"]:
        parser.set_defaults(words=words[2:])
        return words[:1]
    return words


def main(args: argparse.Namespace) -> int:
    """Print the shell's script, or the words that may stand at the end of the command line so far."""
    if args.shell != "words":
        say(SHELLS[args.shell])
        return 0
    for word in candidates(args.words or [""]):
        say(word)
    return 0


def candidates(words: list[str]) -> list[str]:
    """What the last of `words` may become; empty where only the shell knows (files)."""
    from superluigi.cli import command_lines, command_parser

    *before, last = words
    if not before:
        return [name for name in command_lines() if name.startswith(last)]
    try:
        # A module that prints while it is imported must not add to the candidates.
        with contextlib.redirect_stdout(io.StringIO()):
            known = _known(command_parser(before[0]), before[1:], last)
    except (SuperLuigiError, UsageError):
        return []
    return sorted(word for word in known if word.startswith(last) and visible(word, one_line=True) == word)


def _known(parser: Parser, words: list[str], last: str) -> list[str]:
    for action in parser.subcommands:
        if words and words[0] in action:
            return _known(action[words[0]], words[1:], last)
        if not words:
            return list(action)
    if words and words[-1] in parser.flags and (choices := parser.flags[words[-1]].choices):
        return [str(choice) for choice in choices]
    if last.startswith("-"):
        parser.learn(words)
        return [flag for flag in parser.flags if flag != "-h"]
    first = next((action for action in parser._actions if not action.option_strings), None)
    if first is not None and first.choices and all(word.startswith("-") for word in words):
        return [str(choice) for choice in first.choices]
    if parser.flags_are_parameters and len(words) == 1:
        from superluigi.cli._tasks import import_module, task_names

        return task_names([import_module(words[0])])
    if parser.flags_are_parameters and not words:
        return sorted(path.stem for path in Path.cwd().glob("*.py") if "." not in path.stem)
    return []
