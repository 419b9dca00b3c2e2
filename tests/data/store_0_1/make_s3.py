"""Made `s3.json` with version 0.1, everything that was in its bucket; it is read for ever, and never made again."""

import json
import os
from pathlib import Path

import s3_tasks_of_0_1 as made

from superluigi import run_task
from superluigi.testing.s3_server import s3_server

with s3_server() as server:
    server.create_bucket(made.BUCKET)
    os.environ.update({name.upper(): value for name, value in server.client_options.items() if name.startswith("aws")})
    os.environ |= {"AWS_ENDPOINT_URL": server.endpoint_url, "AWS_DEFAULT_REGION": "us-east-1"}
    run_task(made.Inside())
    client, objects = server.client(), {}
    for item in client.list_objects_v2(Bucket=made.BUCKET)["Contents"]:
        found = client.get_object(Bucket=made.BUCKET, Key=item["Key"])
        text = found["Body"].read().decode()
        objects[item["Key"]] = {"text": text, "metadata": found["Metadata"], "type": found["ContentType"]}
    Path("s3.json").write_text(json.dumps(objects, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
