"""Every block of code in the README, the tutorials and the docs is executed; one that is not says why.

A page is one session: its blocks run from top to bottom in one folder, Python blocks in one program (with the page's
own line numbers), shell blocks in bash, with an S3 server in the AWS environment. HTML comments on the line before a
block say what else it is:

    <!-- file: luigi.cfg -->             write it to this file
    <!-- output -->                      what the block before printed: its lines, in order; … stands for anything
    <!-- fails: 1 -->                    a shell block that exits with 1
    <!-- excerpt: tutorials/x.py -->     it is part of this file, word by word
    <!-- not executed: why -->
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from superluigi.testing.s3_server import S3Server, s3_server

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "docs/**/*.md", "tutorials/**/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)
BUCKETS = ("flights", "my-bucket")
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)(?P=fence) *$", re.S | re.M
)
COMMENT = re.compile(r"<!-- *(?P<word>file|output|fails|excerpt|not executed)(?: *: *(?P<rest>.*?))? *-->\s*\Z", re.S)
PICTURES = ("mermaid",)
NOT_RUN = ("not executed", "excerpt")
PREAMBLE = "exec(open(_SUPPORT).read())"
SUPPORT = r'''
import io as _io, pathlib as _p, re as _re, subprocess as _s, sys as _sys

_last = [""]

def _file(name, text):
    _p.Path(name).parent.mkdir(parents=True, exist_ok=True)
    _p.Path(name).write_text(text)

def _shell(line, code, expected):
    bash = ["bash", "-euo", "pipefail", "-c", code]
    done = _s.run(bash, stdin=_s.DEVNULL, stdout=_s.PIPE, stderr=_s.STDOUT, text=True)
    _last[0] = done.stdout
    _sys.stdout.write(_last[0])
    if done.returncode != expected:
        raise SystemExit(f"line {line}: exit code {done.returncode}, expected {expected}, of:\n{code}\n{_last[0]}")

class _Tee(_io.StringIO):
    def write(self, text):
        _sys.__stdout__.write(text)
        return super().write(text)

def _output(line, wanted):
    printed = _last[0] if _last[0] is not None else _sys.stdout.getvalue()
    pattern = r"[\s\S]*?".join(
        "[\\s\\S]*?".join(_re.escape(" ".join(part.split())) for part in text.split("…"))
        for text in wanted.strip().splitlines() if text.strip()
    )
    flat = "\n".join(" ".join(text.split()) for text in printed.splitlines())
    if not _re.search(pattern, flat):
        raise SystemExit(f"line {line}: the page shows\n{wanted}\nbut this was printed:\n{printed}")

def _python():
    """A Python block begins: what it prints is what an output block after it is compared with."""
    _last[0] = None
    _sys.stdout = _Tee()
'''


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    line: int
    language: str
    code: str
    word: str | None
    rest: str


def blocks_of(text: str) -> Iterator[Block]:
    for match in FENCE.finditer(text):
        before = text[: match.start()].rstrip()
        comment = COMMENT.search(before[before.rfind("<!--") :]) if before.endswith("-->") else None
        indent = match["indent"]
        code = "".join(line.removeprefix(indent) for line in match["code"].splitlines(keepends=True))
        line = text.count("\n", 0, match.start("code")) + 1
        word, rest = (comment["word"], comment["rest"] or "") if comment else (None, "")
        yield Block(line, match["language"], code, word, rest)


def program_of(text: str) -> str:
    """The page as a Python program: each block's code stands on the line on which the page has it."""
    lines: list[str] = [PREAMBLE] + [""] * text.count("\n")
    for block in blocks_of(text):
        if block.word in NOT_RUN or block.language in PICTURES:
            continue
        first = block.line - 1
        if block.word == "output":
            lines[first] = f"_output({block.line}, {block.code!r})"
        elif block.word == "file":
            lines[first] = f"_file({block.rest!r}, {block.code!r})"
        elif block.language in ("bash", "sh", "shell", "console"):
            lines[first] = f"_shell({block.line}, {block.code!r}, {int(block.rest) if block.word == 'fails' else 0})"
        else:
            lines[first - 1] += "_python()"
            code = block.code.splitlines()
            lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_block_says_what_it_is_or_why_it_is_not_executed(page: Path) -> None:
    for block in blocks_of((ROOT / page).read_text(encoding="utf-8")):
        where = f"{page}:{block.line}"
        if block.word == "not executed":
            assert len(block.rest) > 10, f"{where}: why is it not executed?"
        elif block.word == "excerpt":
            source = (ROOT / block.rest).read_text(encoding="utf-8")
            assert block.code.strip("\n") in source, f"{where}: not (any more) a part of {block.rest}"
        elif block.word is None:
            known = ("python", "bash", "sh", "shell", "console", *PICTURES)
            assert block.language in known, f"{where}: what is this block? Say so in a comment before it"


WITH_CODE = [
    page
    for page in PAGES
    if any(
        block.word not in NOT_RUN and block.language not in PICTURES
        for block in blocks_of((ROOT / page).read_text(encoding="utf-8"))
    )
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", WITH_CODE, ids=str)
def test_the_page_does_what_it_says(page: Path, server: S3Server, tmp_path: Path) -> None:
    for bucket in BUCKETS:
        server.create_bucket(bucket)
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copytree(ROOT / "tutorials", folder / "tutorials", ignore=shutil.ignore_patterns("__pycache__"))
    support = tmp_path / "support.py"
    support.write_text(SUPPORT)
    program = folder / "page.py"
    source = program_of((ROOT / page).read_text(encoding="utf-8"))
    program.write_text(source.replace("_SUPPORT", repr(str(support)), 1))
    options = server.client_options
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SUPERLUIGI_", "PYTEST_"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": options["endpoint_url"],
        "AWS_ACCESS_KEY_ID": options.get("aws_access_key_id", os.environ.get("AWS_ACCESS_KEY_ID", "")),
        "AWS_SECRET_ACCESS_KEY": options.get("aws_secret_access_key", os.environ.get("AWS_SECRET_ACCESS_KEY", "")),
        "AWS_DEFAULT_REGION": options["region_name"],
    }
    try:
        done = subprocess.run(
            [sys.executable, "page.py"],
            cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=880,
        )  # fmt: skip
    finally:
        server.reset()
    assert done.returncode == 0, f"{page}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"


HOW_TOS = sorted(page.relative_to(ROOT) for page in (ROOT / "docs" / "how-to").glob("*.md"))
INSTALL = re.compile(r"pip install '?superluigi(\[[\w,]+\])?'?")
#: Its first example needs a cluster; tables of words have none.
WITHOUT_EXAMPLE = {"slurm.md", "other-words.md"}


def first_example(text: str) -> str:
    """The page up to and with the first output that it shows."""
    for block in blocks_of(text):
        if block.word == "output":
            return "\n".join(text.splitlines()[: block.line + block.code.count("\n")]) + "\n"
    return text


@pytest.mark.parametrize("page", [page for page in HOW_TOS if page.name not in WITHOUT_EXAMPLE], ids=str)
def test_a_line_that_installs_stands_above_the_first_example_of_a_how_to(page: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = INSTALL.search(text)
    assert found, f"{page}: what must be installed for it?"
    assert found.start() < text.index("```"), f"{page}: say what to install above the first block"


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_first_example_of_every_how_to_runs_after_exactly_the_line_above_it(
    server: S3Server, tmp_path: Path
) -> None:
    pages: dict[str, list[Path]] = {}
    for page in HOW_TOS:
        if page.name not in WITHOUT_EXAMPLE:
            found = INSTALL.search((ROOT / page).read_text(encoding="utf-8"))
            pages.setdefault((found and found[1]) or "", []).append(page)
    support = tmp_path / "support.py"
    support.write_text(SUPPORT)
    source_tree = tmp_path / "superluigi-source"  # a build leaves folders behind in the tree that it builds
    ignored = shutil.ignore_patterns(".git", ".venv*", ".demo", "build", "dist", "*.egg-info", "__pycache__", "site")
    shutil.copytree(ROOT, source_tree, ignore=ignored)
    failed = []
    for extras, several in sorted(pages.items()):
        home = tmp_path / f"env-{extras.strip('[]') or 'core'}"
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", f"{source_tree}{extras}"]
        subprocess.run(pip, check=True, capture_output=True)
        for page in several:
            for bucket in BUCKETS:
                server.create_bucket(bucket)
            folder = tmp_path / f"{home.name}-{page.stem}"
            folder.mkdir()
            source = program_of(first_example((ROOT / page).read_text(encoding="utf-8")))
            (folder / "page.py").write_text(source.replace("_SUPPORT", repr(str(support)), 1))
            options = server.client_options
            environment = {
                "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(folder),
                "AWS_ENDPOINT_URL": options["endpoint_url"],
                "AWS_ACCESS_KEY_ID": options["aws_access_key_id"],
                "AWS_SECRET_ACCESS_KEY": options["aws_secret_access_key"],
                "AWS_DEFAULT_REGION": options["region_name"],
            }
            done = subprocess.run(
                [str(home / "bin" / "python"), "page.py"],
                cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=880,
            )  # fmt: skip
            server.reset()
            if done.returncode:
                failed.append(f"{page} with superluigi{extras}\n{done.stdout[-1500:]}\n{done.stderr[-2500:]}")
    assert failed == []
