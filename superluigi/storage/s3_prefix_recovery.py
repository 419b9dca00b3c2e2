"""The claim on an S3 prefix: who replaces it, and how whoever comes next finishes what a dead process began.

A prefix that holds something is replaced under a claim, `<record>.pending`, which is made with
`If-None-Match` and changed by compare-and-swap, so that one process at a time acts on it. In state
`uploading` the old record still stands, and the claim can be undone; in state `switching` it holds the whole
plan, the record is gone (the output is absent), and the claim can only be finished: everything that is needed
is on the server.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from superluigi.errors import CommitConflictError
from superluigi.storage import owner_token, s3_contents
from superluigi.storage.base import PENDING_SUFFIX, Record
from superluigi.storage.s3_client import S3Client
from superluigi.storage.s3_conditions import Conditions, conditions_of
from superluigi.storage.s3_contents import Content
from superluigi.storage.s3_errors import explained, is_absent, is_precondition
from superluigi.storage.s3_leftovers import MARK
from superluigi.storage.s3_record import Register, commit_of, to_json
from superluigi.storage.s3_transfer import (
    Condition,
    copy_many,
    delete_many,
    get_bytes,
    head,
    in_threads,
    listing,
    put_bytes,
)

#: How long a claim of another host stands without a sign of life.
LEASE = timedelta(hours=1)
CLAIM = PENDING_SUFFIX


@dataclass(frozen=True)
class PrefixPlace:
    """Where a prefix and its record are; what the functions here need, and nothing of this process."""

    bucket: str
    prefix: str
    record_bucket: str
    record_key: str

    @property
    def claim_key(self) -> str:
        return self.record_key + CLAIM

    def staged_key(self, commit: str, key: str) -> str:
        return f"{self.staged_prefix(commit)}{key[len(self.prefix) :]}"

    def staged_prefix(self, commit: str) -> str:
        return f"{self.prefix}{MARK}{commit}/"

    def is_content(self, key: str) -> bool:
        """Whether `key` below the prefix is data: no record of ours, no claim, manifest or staged key."""
        if self.record_bucket == self.bucket and (
            key in (self.record_key, self.claim_key) or key.startswith(self.record_key + s3_contents.MANIFEST)
        ):
            return False
        return not key[len(self.prefix) :].startswith(MARK)


@dataclass(frozen=True)
class Claim:
    """The claim as it is on the server. `holder` is the token of the process that acts on it now."""

    commit: str
    holder: str
    folder: str
    state: str = "uploading"
    plan: Record | None = None
    etag: str = ""
    modified: datetime | None = None

    def is_abandoned(self) -> bool:
        """Whether nobody works on it any more, as far as this host can know."""
        if owner_token.is_of_this_world(self.holder):
            return owner_token.owner_is_gone(self.holder) or not os.path.exists(self.folder)
        return self.modified is not None and datetime.now(timezone.utc) - self.modified > LEASE


class ClaimFile:
    """The claim's object of one prefix."""

    def __init__(self, s3: S3Client, place: PrefixPlace, options: Mapping[str, Any], conditions: Conditions) -> None:
        self.s3, self.place, self.options = s3, place, options
        self.conditional = conditions.create and conditions.match

    def read(self) -> Claim | None:
        found = get_bytes(self.s3, self.place.record_bucket, self.place.claim_key, {})
        if found is None:
            return None
        try:
            document = json.loads(found[0])
            return Claim(
                document["commit"], document["holder"], document["folder"], document["state"],
                document.get("plan"), found[1].etag, found[1].modified,
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            return Claim("", "", "", etag=found[1].etag, modified=found[1].modified)  # not ours, or torn

    def write(self, claim: Claim) -> Claim:
        """Swap the claim from the state with `claim.etag` ("" : absent) to this one.

        Raises:
            CommitConflictError: somebody else holds it.
        """
        document = {
            "schema": "superluigi.pending/1", "commit": claim.commit, "holder": claim.holder, "folder": claim.folder,
            "state": claim.state, "plan": claim.plan, "time": time.time(),
        }  # fmt: skip
        condition = Condition(claim.etag or None) if self.conditional else None
        try:
            put = put_bytes(
                self.s3, self.place.record_bucket, self.place.claim_key, to_json(document), condition, self.options
            )
        except CommitConflictError:
            there = self.read()  # our own write, with a lost reply?
            if there is None or (there.commit, there.holder, there.state) != (claim.commit, claim.holder, claim.state):
                raise
            return there
        return replace(claim, etag=put.etag)

    def release(self, claim: Claim) -> None:
        """Remove the claim if it is still this one."""
        where = {"Bucket": self.place.record_bucket, "Key": self.place.claim_key}
        with explained("remove", f"s3://{self.place.record_bucket}/{self.place.claim_key}"):
            try:
                self.s3.boto.delete_object(**where, IfMatch=claim.etag)
            except self.s3.boto.exceptions.ClientError as error:
                if is_precondition(error) or is_absent(error):
                    return  # somebody took it over
                if error.response["ResponseMetadata"].get("HTTPStatusCode") not in (400, 501):
                    raise
                there = self.read()  # a server without conditional deletes
                if there is not None and (there.commit, there.holder) == (claim.commit, claim.holder):
                    self.s3.boto.delete_object(**where)


def finish(
    s3: S3Client, place: PrefixPlace, claim: Claim, options: Mapping[str, Any], conditions: Conditions
) -> Record:
    """Carry out the plan of a claim in state `switching`; any step may have been done before. The record."""
    plan = claim.plan or {}
    contents = {item["key"]: Content.from_json(item) for item in plan["contents"]}
    register = Register(s3, place.record_bucket, place.record_key, {}, options)
    records, _ = register.read()
    if records and commit_of(records[0]) == claim.commit:
        record = records[0]
    else:
        register.remove()  # from here on the output is absent
        pairs = [(place.staged_key(claim.commit, key), key, contents[key].size) for key in plan["copies"]]
        for key, put in copy_many(s3, place.bucket, pairs, plan["copy_options"]).items():
            contents[key] = replace(contents[key], etag=put.etag)
        record = publish_record(s3, place, plan["record"], contents.values(), plan["limit"], options)
        put_record(s3, place, record, options, conditions)
    staged = [place.staged_key(claim.commit, key) for key in plan["copies"]]
    gone = [key for key in plan["gone"] if key.startswith(place.prefix) and place.is_content(key)]
    delete_many(s3, place.bucket, [*gone, *staged], {})
    manifest = str(plan.get("old_manifest") or "")
    if manifest.startswith(place.record_key + s3_contents.MANIFEST):
        delete_many(s3, place.record_bucket, [manifest], {})
    return record


def publish_record(
    s3: S3Client,
    place: PrefixPlace,
    record: Record,
    contents: Iterable[Content],
    limit: int,
    options: Mapping[str, Any],
) -> Record:
    """The record with all that is known of its contents now; its manifest is written if it needs one."""
    found = list(contents)
    output = record["output"]
    full = s3_contents.output_of(output["type"], output["path"], found, output.get("commit"), limit)
    if s3_contents.is_cut(full):
        key = s3_contents.manifest_key(place.record_key, output["commit"])
        put_bytes(s3, place.record_bucket, key, s3_contents.to_bytes(found), None, options)
    return {**record, "output": {**output, **full}}


def put_record(
    s3: S3Client, place: PrefixPlace, record: Record, options: Mapping[str, Any], conditions: Conditions
) -> None:
    """Write the record where none is: the moment in which the output becomes complete.

    Raises:
        CommitConflictError: there is one of another commit.
    """
    register = Register(s3, place.record_bucket, place.record_key, {}, options)
    condition = Condition() if conditions.create else None
    try:
        put_bytes(s3, place.record_bucket, place.record_key, to_json(record), condition, register.put_options)
    except CommitConflictError:
        records, _ = register.read()
        if not records or commit_of(records[0]) != commit_of(record):
            raise  # else: our own write, with a lost reply


def recover(s3: S3Client, place: PrefixPlace, options: Mapping[str, Any], conditions: Conditions) -> bool:
    """Finish or undo what a dead process left claimed; False if the claim's holder is alive.

    Raises:
        CommitConflictError: another process is just doing the same.
    """
    file = ClaimFile(s3, place, options, conditions)
    claim = file.read()
    if claim is None:
        return True
    if not claim.is_abandoned():
        return False
    if not claim.commit:
        delete_many(s3, place.record_bucket, [place.claim_key], {})
        return True
    # A folder that lives as long as this process says to others on this host that we are at it.
    mine = file.write(replace(claim, holder=owner_token.token(), folder="/"))
    if claim.state == "switching":
        finish(s3, place, mine, options, conditions)
    else:
        undo(s3, place, claim.commit)
    file.release(mine)
    return True


def undo(s3: S3Client, place: PrefixPlace, commit: str) -> None:
    """Remove what an upload that will never be published has left, under final names as well."""
    register = Register(s3, place.record_bucket, place.record_key, {}, {})
    records, _ = register.read()
    if records and commit_of(records[0]) == commit:
        return  # it was published
    named: set[str] = set()
    if records:
        contents = s3_contents.read(s3, place.record_bucket, place.record_key, records[0].get("output", {}), {})
        named = {item.key for item in contents or ()}
    found = [item["Key"] for item in listing(s3, place.bucket, place.prefix, {})]
    staged = [key for key in found if key.startswith(place.staged_prefix(commit))]
    suspects = [key for key in found if place.is_content(key) and key not in named]
    doomed = in_threads(lambda key: (key, head(s3, place.bucket, key, {})), suspects, 16)
    own = [key for key, there in doomed if there is not None and there.commit == commit]
    delete_many(s3, place.bucket, [*own, *staged], {})
    delete_many(s3, place.record_bucket, [s3_contents.manifest_key(place.record_key, commit)], {})


def recover_noted(s3: S3Client, line: Mapping[str, Any], root: Path) -> None:
    """Follow the note of a dead process: its claim, or without one its uploads under final names."""
    place = PrefixPlace(line["bucket"], line["prefix"], line["record_bucket"], line["record_key"])
    conditions = conditions_of(s3, place.record_bucket, place.record_key, root)
    claim = ClaimFile(s3, place, {}, conditions).read()
    if claim is not None and claim.commit == line["commit"]:
        recover(s3, place, {}, conditions)
    else:
        undo(s3, place, line["commit"])
