"""What a worker process and its parent say to each other arrives whole, however slowly, and whatever else is said."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superluigi.worker_process import handle, protocol
from superluigi.worker_process.protocol import (
    GREETING,
    REPLIES,
    REQUESTS,
    Call,
    Channel,
    FileChannel,
    Message,
    Result,
    Stop,
)


def _all(channel: Channel, replies: int, pieces: list[bytes]) -> list[object]:
    """What arrives when the pieces come one by one, and the channel is asked after each, and at the end."""
    heard = []
    for piece in pieces:
        os.write(replies, piece)
        while (said := channel.receive_within(0)) is not None:
            heard.append(said)
    return heard


def _frame(said: object) -> bytes:
    read, write = os.pipe()
    sender = Channel(os.open(os.devnull, os.O_RDONLY), write)
    sender.send(said)  # type: ignore[arg-type]
    sender.close()
    with open(read, "rb") as stream:
        return stream.read()


@given(st.binary(max_size=40), st.lists(st.integers(0, len(GREETING) + 40), max_size=4))
def test_what_a_prefix_command_prints_first_is_no_message(noise: bytes, cuts: list[int]) -> None:
    if GREETING in noise + GREETING[:-1]:
        return
    read, write = os.pipe()
    channel = Channel(read, os.open(os.devnull, os.O_WRONLY), greeted=False)
    before = noise + GREETING
    places = sorted({0, *(min(cut, len(before)) for cut in cuts), len(before)})
    pieces = [before[a:b] for a, b in itertools.pairwise(places)]
    said = [Message(1, ("begun", None)), Result(1, True, b"x" * 70, False)]
    try:
        assert _all(channel, write, [*pieces, *map(_frame, said)]) == said
    finally:
        os.close(write)
        channel.close()


def test_the_end_of_a_channel_is_no_silence() -> None:
    for begun in (b"", b"noise", GREETING):
        read, write = os.pipe()
        channel = Channel(read, os.open(os.devnull, os.O_WRONLY), greeted=False)
        os.write(write, begun)
        os.close(write)
        with pytest.raises((EOFError, OSError)):
            channel.receive_within(0)
        channel.close()


def test_half_a_message_in_a_file_waits_for_its_other_half(tmp_path: Path) -> None:
    channel = FileChannel(tmp_path)
    said = [Message(1, ("a", ())), Result(1, True, b"y" * 20_000, False)]
    content = b"".join(map(_frame, said))
    heard = []
    with (tmp_path / REPLIES).open("ab", buffering=0) as stream:
        for place in range(0, len(content), 2_500):
            stream.write(content[place : place + 2_500])
            while (one := channel.receive()) is not None:
                heard.append(one)
    assert heard == said
    assert (tmp_path / REQUESTS).stat().st_mode & 0o077 == 0
    channel.close()
    assert not list(tmp_path.iterdir())


def test_each_way_makes_the_calls_that_it_is_given(tmp_path: Path) -> None:
    call = protocol.by_name("os.path:join", "a", "b")
    by_socket = handle.at_a_socket()
    by_pipes = handle.at_pipes(["sh", "-c", 'printf "%s " motd; exec "$@"', "sh"], {}, None, tmp_path / "log")
    for worker in (by_socket, by_pipes):
        worker.say(Call(1, call))
        result = worker.channel.receive_within(60)
        assert isinstance(result, Result) and result.ok and b"a/b" in result.payload
        assert worker.end(30) in (0, 143)
    files = FileChannel(tmp_path)
    files.send(Call(1, call))
    files.send(Stop())
    with (tmp_path / "out").open("wb") as out:
        line = handle.command(["env"], [sys.executable], str(tmp_path))
        in_folder = handle.in_a_folder(line, files, os.environ, out.fileno(), out.fileno())
        assert in_folder.wait(60) == 0
    result = files.receive()
    assert isinstance(result, Result) and result.ok and b"a/b" in result.payload
    in_folder.bury()


def test_nothing_is_printed_into_the_pipes_by_what_a_call_starts(tmp_path: Path) -> None:
    worker = handle.at_pipes([], {}, None, tmp_path / "log")
    worker.say(Call(1, protocol.by_name("os:system", "echo printed; cat")))
    assert isinstance(worker.channel.receive_within(60), Result)
    worker.end(30)
    assert subprocess.run(["cat", tmp_path / "log"], capture_output=True, text=True).stdout == "printed\n"
