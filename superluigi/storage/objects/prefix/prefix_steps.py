"""What a commit, its undoing, its finishing and a removal do at an S3 prefix, each step with its fence.

Two processes that take each other for dead may act here at once, and a request may arrive long after its sender
was given up. Nothing therefore rests on a look that came before. The fences, of which
docs/decisions/s3/ has the table:

- The record's key only changes by compare-and-swap, and holds a blocker (`superluigi_absent`) instead of a record
  while bytes are exchanged: what an older writer still wants to publish there cannot come.
- A key that is there is only overwritten by a copy, on the server, of a key that bears the actor's own token.
  A process that takes over removes those first: the copy of a key that is gone fails.
- A key is only removed when such a copy has made a gravestone of it, on the condition that it still is one.
- A key that is not there is made on the condition that it is not there.
- Keys that bear a token are the business of that token's actor and of those who took over from it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from superluigi.errors import CommitConflictError, TargetMissingError
from superluigi.storage import input_lists
from superluigi.storage.base import PENDING_SUFFIX, RECORD_SUFFIX, Record
from superluigi.storage.objects import intent_log, leases
from superluigi.storage.objects.intent_log import MARK
from superluigi.storage.objects.prefix import manifest
from superluigi.storage.objects.prefix.manifest import Manifest
from superluigi.storage.objects.record import ABSENT, PENDING, Register, commit_of, to_json
from superluigi.storage.objects.renewed import etag_of_ours
from superluigi.storage.objects.store import OBJECTS_AT_ONCE, ConditionalWrites, ListedObject, ObjectStore, in_threads

CLAIM = PENDING_SUFFIX
#: The size of a blocker, by which a listing tells it from a record, with one request more in case of doubt.
BLOCKER_SIZE = 256
_ATTEMPTS = 20


@dataclass(frozen=True)
class PrefixKeys:
    """Where a prefix and its record are; what the functions here need, and nothing of this process."""

    bucket: str
    prefix: str
    record_bucket: str
    record_key: str

    @property
    def claim_key(self) -> str:
        return self.record_key + CLAIM

    @property
    def labels(self) -> dict[str, str]:
        """User metadata of staged keys, from which the record is not to be guessed."""
        guesses = (f"{self.prefix[:-1]}{RECORD_SUFFIX}", self.prefix + RECORD_SUFFIX)
        if self.record_bucket == self.bucket and self.record_key in guesses:
            return {}
        return intent_log.record_label(self.record_bucket, self.record_key)

    def staged_key(self, token: str, key: str) -> str:
        return f"{self.staged_prefix(token)}{key[len(self.prefix) :]}"

    def staged_prefix(self, token: str) -> str:
        return f"{self.prefix}{MARK}{token}/"

    def gravestone_key(self, token: str) -> str:
        return f"{self.staged_prefix(token)}{MARK}gone"

    def holds(self, key: str) -> bool:
        """Whether `key` is data of this prefix: a plan describes, it does not command."""
        return key.startswith(self.prefix) and self.is_content(key)

    def is_content(self, key: str) -> bool:
        """Whether `key` below the prefix is data: no record of ours, no claim, lease, manifest or staged key."""
        if self.record_bucket == self.bucket and (
            key in (self.record_key, self.claim_key, self.record_key + leases.SUFFIX)
            or key.startswith((self.record_key + manifest.MANIFEST, f"{self.record_key}{input_lists.SUFFIX}/"))
        ):
            return False
        return not key[len(self.prefix) :].startswith(MARK)


@dataclass(frozen=True)
class Standing:
    """What is at the record's key: a record, a blocker of a token, or nothing.

    A blocker that `stays` stands against a writer that is not known to be gone.
    """

    record: Record | None
    etag: str | None
    blocker: str | None = None
    stays: bool = False

    @property
    def commit(self) -> str | None:
        return commit_of(self.record) if self.record else None


def is_plan(plan: object) -> bool:
    """Whether a claim's plan has the shape that `carry_out` and `clean_up` follow. Another is no commit."""
    if not isinstance(plan, dict):
        return False
    contents, options, record = plan.get("contents"), plan.get("copy_options"), plan.get("record")
    output = record.get("output") if isinstance(record, dict) else None
    if not (isinstance(contents, list) and isinstance(options, dict) and isinstance(output, dict)):
        return False
    if not all(isinstance(item, dict) and _is_content(item) for item in contents):
        return False
    named = {item["key"] for item in contents}
    copies, gone = plan.get("copies"), plan.get("gone")
    return (
        all(isinstance(keys, list) and all(isinstance(key, str) for key in keys) for keys in (copies, gone))
        and named.issuperset(copies or ())
        and all(isinstance(output.get(key), str) for key in ("type", "path", "commit"))
        and isinstance(plan.get("limit"), int)
        and not {"Bucket", "Key", "CopySource"} & options.keys()
    )


def _is_content(item: Mapping[str, object]) -> bool:
    kinds: Mapping[str, type | tuple[type, ...]] = {
        "key": str,
        "size": int,
        "etag": (str, type(None)),
        "digest": (dict, type(None)),
    }
    return all(isinstance(item.get(key), kind) for key, kind in kinds.items())


@dataclass(frozen=True)
class PrefixStore:
    """One prefix on its server."""

    s3: ObjectStore
    place: PrefixKeys
    conditions: ConditionalWrites
    #: Of the record, the claim and manifests.
    put_options: Mapping[str, object]
    get_options: Mapping[str, object]

    @property
    def register(self) -> Register:
        return Register(self.s3, self.place.record_bucket, self.place.record_key, self.get_options, self.put_options)

    # ---- the record's key

    def standing(self) -> Standing:
        document, there = self.register.read_document()
        if document is None or there is None:
            return Standing(None, None)
        if ABSENT in document:
            said = document[ABSENT]
            return Standing(None, there.etag, str(said.get("commit")), bool(said.get("stays")))
        return Standing({key: value for key, value in document.items() if key != PENDING}, there.etag)

    def block(self, expected: str | None, token: str, stays: bool) -> str:
        """Put a blocker where `expected` is: from here on the output is absent. The blocker's ETag.

        Raises:
            CommitConflictError: something else is there.
        """
        text = json.dumps({ABSENT: {"commit": token, "stays": stays}}).encode().ljust(BLOCKER_SIZE)

        def ours() -> str | None:
            there = self.standing()
            return there.etag if there.blocker == token else None

        return etag_of_ours(lambda: self.register.swap(text, expected, self.conditions), ours)

    def publish(self, record: Record, expected: str | None) -> None:
        """Put the record where `expected` is: the moment in which the output becomes complete.

        Raises:
            CommitConflictError: something else is there.
        """
        try:
            self.register.write([record], expected, self.conditions)
        except CommitConflictError:
            if self.standing().commit != commit_of(record):
                raise  # else: our own write with a lost reply, or another process finished it

    def described(self, record: Record, contents: Iterable[Manifest], limit: int) -> Record:
        """The record with all that is known of its contents now; its manifest is written if it needs one."""
        found = list(contents)
        output = record["output"]
        full = manifest.output_of(output["type"], output["path"], found, output.get("commit"), limit)
        if manifest.is_cut(full):
            key = manifest.manifest_key(self.place.record_key, output["commit"])
            body = manifest.to_bytes(found)
            self.s3.put(self.place.record_bucket, key, body, None, self.put_options)
        return {**record, "output": {**output, **full}}

    # ---- the keys below the prefix

    def contents(self) -> list[ListedObject]:
        """What is there as data, as a listing tells of it."""
        found = self.s3.list(self.place.bucket, self.place.prefix, self.get_options)
        return [item for item in found if self.place.is_content(item.key)]

    def put_gravestone(self, token: str) -> None:
        """Make what `remove` copies. Only before the claim is taken, or confirmed: see `revoke`."""
        key, labels = self.place.gravestone_key(token), {"superluigi-commit": token, **self.place.labels}
        options = {**self.put_options, "Metadata": labels}
        self.s3.put(self.place.bucket, key, token.encode(), None, options)

    def remove(self, keys: Iterable[str], token: str, options: Mapping[str, object]) -> None:
        """Remove keys, as long as the gravestone of `token` is there.

        Raises:
            CommitConflictError: it is not, for another process took over.
        """
        source = self.place.gravestone_key(token)

        def one(key: str) -> None:
            try:
                put = self.s3.copy(self.place.bucket, [(source, key, 0)], options)[key]
            except TargetMissingError as error:
                raise CommitConflictError(f"{source} is gone: its claim was taken over.") from error
            self.s3.delete_if(self.place.bucket, key, put.etag, {})

        in_threads(one, keys, OBJECTS_AT_ONCE)

    def revoke(self, token: str, large: Iterable[str] = ()) -> None:
        """Remove all keys that bear `token`, so that nothing of its actor can overwrite or remove any more.

        `large` are keys that its plan copies in parts, whose last step needs no source any more.
        """
        found = [item.key for item in self.s3.list(self.place.bucket, self.place.staged_prefix(token), {})]
        if found:
            self.s3.delete(self.place.bucket, found, {})
        for key in large:
            for upload in self.s3.uploads(self.place.bucket, key):
                if upload.key == key:
                    self.s3.abort_upload(self.place.bucket, key, upload.upload_id)

    def remove_manifest(self, commit: str) -> None:
        """Remove what only the record of `commit` names: its manifest, and its lists of inputs."""
        lists = [self.register.list_key(f"{commit}.{key}") for key in input_lists.KEYS]
        self.s3.delete(self.place.record_bucket, [manifest.manifest_key(self.place.record_key, commit), *lists], {})

    # ---- a plan, and its undoing

    def carry_out(self, commit: str, plan: Record) -> Record:
        """Exchange bytes and record as the plan of a claim says; any step may have been done before. The record."""
        standing = self.standing()
        if standing.record is not None and standing.commit == commit:
            return standing.record
        contents = {item["key"]: Manifest.from_json(item) for item in plan["contents"]}
        etag = standing.etag
        if standing.blocker != commit:
            # Nothing there: it was begun by version 0.1, which removed the record.
            if standing.record is not None and standing.commit != plan.get("replaced", standing.commit):
                raise CommitConflictError(f"s3://{self.place.bucket}/{self.place.prefix} was changed.")
            etag = self.block(etag, commit, stays=False)
        copies = filter(self.place.holds, plan["copies"])
        pairs = [(self.place.staged_key(commit, key), key, contents[key].size) for key in copies]
        try:
            copied = self.s3.copy(self.place.bucket, pairs, plan["copy_options"])
        except TargetMissingError as error:
            raise CommitConflictError(f"The claim on s3://{self.place.bucket}/{self.place.prefix} is lost.") from error
        contents |= {key: replace(contents[key], etag=put.etag) for key, put in copied.items()}
        record = self.described(plan["record"], contents.values(), plan["limit"])
        self.publish(record, etag)
        return record

    def clean_up(self, commit: str, plan: Record) -> None:
        """Remove what a published plan leaves: keys that the new output has not, and its own staged ones."""
        if gone := list(filter(self.place.holds, plan["gone"])):
            with contextlib.suppress(CommitConflictError):  # the gravestone goes after all that it was for
                self.remove(gone, commit, plan["copy_options"])
        sizes = {item["key"]: item["size"] for item in plan["contents"]}
        large = [key for key in plan["copies"] if self.s3.copies_in_parts(sizes[key])]
        if plan["copies"] or plan["gone"]:
            self.revoke(commit, large)
        old = [str(plan.get("old_manifest") or "")]
        old = [key for key in old if key.startswith(self.place.record_key + manifest.MANIFEST)]
        lists = plan.get("old_lists")
        kept = input_lists.named(plan["record"])
        left = {file for file in (lists if isinstance(lists, list) else []) if input_lists.token_of(file)} - kept
        if old or left:
            self.s3.delete(self.place.record_bucket, [*old, *map(self.register.list_key, sorted(left))], {})

    def undo(self, commit: str, token: str, *, stays: bool) -> bool:
        """Remove what an upload that shall never be published has left, under final names as well.

        The caller holds the claim as `token`, whose gravestone was there before. With `stays`, the writer of
        `commit` may be alive: what it still wants to publish cannot come. True if it was published after all.
        """
        standing = self.standing()
        if standing.commit != commit and stays:
            standing = self._fence(standing, token, commit)
        if standing.commit == commit:
            self.revoke(commit)
            return True
        named: set[str] = set()
        if standing.record is not None:
            output = standing.record.get("output", {})
            contents = manifest.read(self.s3, self.place.record_bucket, self.place.record_key, output, {})
            named = {item.key for item in contents or ()}
        suspects = [item.key for item in self.contents() if item.key not in named]
        heads = in_threads(lambda key: (key, self.s3.head(self.place.bucket, key, {})), suspects, OBJECTS_AT_ONCE)
        self.remove([key for key, there in heads if there is not None and there.commit == commit], token, {})
        self.revoke(commit)
        self.remove_manifest(commit)
        if standing.blocker is not None and not standing.stays and standing.etag is not None:
            self.register.delete(standing.etag)
        return False

    def _fence(self, standing: Standing, token: str, commit: str) -> Standing:
        """Change the record's key, so that what was going to be swapped against its state is not."""
        for _ in range(_ATTEMPTS):
            try:
                if standing.record is None:
                    self.block(standing.etag, token, stays=True)
                elif standing.etag is not None:
                    text = to_json({**standing.record, PENDING: [{"superseded": token}]})
                    self.register.swap(text, standing.etag, self.conditions)
                return self.standing()
            except CommitConflictError:
                standing = self.standing()
                if standing.commit == commit:
                    return standing
        raise CommitConflictError(f"{self.register.uri} is being written by too many others at once.")
