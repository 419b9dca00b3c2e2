"""A run asks about many S3 outputs under one prefix with one listing."""

from __future__ import annotations

import luigi

from superluigi.targets import S3ObjectTarget
from superluigi.task_runner import run_task
from superluigi.tasks import Task
from superluigi.testing.s3_server import S3Server


def test_a_warm_run_of_many_tasks_costs_a_listing_and_not_a_look_each(s3_server: S3Server, s3_bucket: str) -> None:
    class Part(Task):
        number = luigi.IntParameter()

        def output(self) -> S3ObjectTarget:
            return S3ObjectTarget(s3_bucket, f"parts/{self.number:03}", **s3_server.client_options)

        def run(self) -> None:
            with self.output().open("w") as stream:
                stream.write("1")

    class All(luigi.WrapperTask):
        def requires(self) -> list[Part]:
            return [Part(number) for number in range(30)]

    client = s3_server.client()
    for number in range(29):
        client.put_object(Bucket=s3_bucket, Key=f"parts/{number:03}", Body=b"1")
    with s3_server.counted() as seen:
        run_task(All())
    assert [request.path for request in seen if request.method == "PUT"] == [f"/{s3_bucket}/parts/029"]
    with s3_server.counted() as seen:
        run_task(All())
    assert len(seen) <= 2, [str(request) for request in seen]
