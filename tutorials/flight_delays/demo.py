"""The whole idea in a minute: `make demo`.

Starts an S3 server by itself (or uses the one in AWS_ENDPOINT_URL), makes predictions for one day, does it again,
forces parts of it, and shows what lies beside the output. `--keep` leaves the server running so that you can look.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / ".demo"
DAY = datetime.date(2013, 12, 15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the S3 server running at the end")
    parser.add_argument("--workers", type=int, default=1, help="tasks at once (default: 1)")
    args = parser.parse_args()
    os.environ.setdefault("SUPERLUIGI_LOCAL_DATA_DIR", str(DATA))
    sys.path.insert(0, str(HERE))
    with storage() as client:
        from pipeline import BUCKET

        if BUCKET not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=BUCKET)
        walk(args.workers)
        if args.keep:
            wait()


@contextlib.contextmanager
def storage() -> Iterator[Any]:
    """A boto3 client of the S3 that the AWS environment names, else of a server started for the demo."""
    import boto3

    if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        yield boto3.client("s3")
        return
    from superluigi.testing.s3_server import s3_server

    shutil.rmtree(DATA, ignore_errors=True)  # copies from the server of the demo before, which is gone
    with s3_server() as server:
        options = server.client_options
        os.environ["AWS_ENDPOINT_URL"] = options["endpoint_url"]
        os.environ["AWS_ACCESS_KEY_ID"] = options["aws_access_key_id"]
        os.environ["AWS_SECRET_ACCESS_KEY"] = options["aws_secret_access_key"]
        os.environ["AWS_DEFAULT_REGION"] = options["region_name"]
        yield server.client()


def walk(workers: int) -> None:
    """Cold, warm, forced in three ways; then what lies beside the output."""
    from pipeline import ModelTask, PredictionsTask

    task = PredictionsTask(date=DAY, version=4)
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("1. The first run makes everything", "nothing is there yet", {}),
        ("2. The same again", "nothing to do: the prediction is there", {}),
        ("3. force=True", "the prediction alone is made again", {"force": True}),
        (
            "4. force_upstream_to_task_cls=ModelTask",
            "the model learns again, then the prediction; features stay",
            {"force_upstream_to_task_cls": ModelTask},
        ),
        ("5. force_upstream=True", "everything is made again, from the raw flights on", {"force_upstream": True}),
    ]
    times = [(title, *step(title, why, task, {"num_workers": workers, **options})) for title, why, options in steps]
    show_record(task)
    headline("In short")
    for title, ran, seconds in times:
        print(f"  {title:<45} {ran:>3} tasks ran in {seconds:5.1f} s")
    errors = task.output().read_metadata()["mean_absolute_error_minutes"]
    print("\n  Off by so many minutes, on average:")
    for name, value in errors.items():
        print(f"  {value:7.2f}  {name}")
    local = task.output().download()
    print(f"\n  Predictions:  {task.output().path}\n  local copy:   {local}")
    print(f"  their record: {task.output().metadata_path}")
    print("  the pipeline: tutorials/flight_delays/pipeline.py, explained in docs/tutorial.md")


def step(title: str, why: str, task: Any, options: dict[str, Any]) -> tuple[int, float]:
    """Run it; returns how many tasks ran and how long it took."""
    from superluigi.task_runner import run_task

    headline(f"{title}: {why}")
    before, started = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    run_task(task, **options)
    seconds = time.monotonic() - started
    return count_made_since(before, task), seconds


def count_made_since(moment: datetime.datetime, task: Any) -> int:
    """How many outputs of the graph say in their record that they were made after `moment`."""
    seen, made, todo = set(), 0, [task]
    while todo:
        task = todo.pop()
        if task.task_id in seen:
            continue
        seen.add(task.task_id)
        record = task.output().read_metadata()
        made += record is not None and datetime.datetime.fromisoformat(as_iso(record["start_time"])) >= moment
        todo.extend(task.deps())
    return made


def as_iso(text: str) -> str:
    return text.replace("Z", "+00:00")  # Python 3.10 does not read the Z


def show_record(task: Any) -> None:
    headline("6. What lies beside the prediction: its record")
    print(json.dumps(task.output().read_metadata(), indent=2, default=str))


def headline(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def wait() -> None:
    """Until Ctrl-C; prints how another terminal reaches the server."""
    headline("The S3 server stays until you press Ctrl-C. In another terminal:")
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        print(f"  export {name}={os.environ[name]}")
    print("  superluigi lineage s3://flights/predictions/version=4/2013-12-15.csv")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main()
