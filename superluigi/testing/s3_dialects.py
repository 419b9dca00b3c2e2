"""How servers that speak S3 differ where it matters: the embedded server can speak like them.

    with s3_server(dialect=CEPH_16) as server: ...

`CEPH_16` is what a real object gateway of Ceph 16.2 (Debian 12) was seen to do, `OLD_MOTO` what moto did up to 5.1.4,
`SEAWEED` how SeaweedFS 4.48 lists (and s3rver, but for `start-after`).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote_to_bytes

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment


@dataclass(frozen=True)
class Dialect:
    """What a server does; the defaults are those of S3."""

    #: Its `Server` header; None leaves that of the embedded server, by which it is known.
    server: str | None = None
    #: Conditions that are minded, on PutObject, CompleteMultipartUpload, DeleteObject; the others are ignored.
    puts: bool = True
    completes: bool = True
    deletes: bool = True
    #: In buckets with versions If-Match never holds, and If-None-Match is ignored.
    odd_versions: bool = False
    #: If-Match holds only for an ETag without its quotes.
    bare_etags: bool = False
    #: Checksums other than Content-MD5 (as header or trailer) are refused, and none is given back.
    only_md5: bool = False
    #: Checksums are not compared with the bytes.
    believes: bool = False
    #: Listings are in the order of a tree's walk, `a/b` before `a.b`, and `start-after` is meant so.
    tree_order: bool = False
    #: A completed multipart upload is not told its ETag.
    silent_completes: bool = False
    #: Names of user metadata come back as `Superluigi-Commit`.
    titled_metadata: bool = False

    def refusal(self, environ: WSGIEnvironment, app: WSGIApplication) -> str:
        """Take what is not minded out of a request that writes; "" or a status and a code to refuse it with."""
        query = environ.get("QUERY_STRING", "")
        wanted = environ.get("HTTP_IF_MATCH", "")
        method = environ["REQUEST_METHOD"]
        if self.only_md5 and (query.startswith("delete") or "/" in environ["PATH_INFO"].strip("/")):
            names = [name for name in environ if re.match(r"HTTP_X_AMZ_(CHECKSUM|SDK_CHECKSUM|TRAILER)", name)]
            if "aws-chunked" in environ.get("HTTP_CONTENT_ENCODING", "") or names:
                return "501 NotImplemented"
            if method == "POST" and query.startswith("delete") and not environ.get("HTTP_CONTENT_MD5"):
                return "400 InvalidRequest"
        minded = self.deletes if method == "DELETE" else self.completes if method == "POST" else self.puts
        if self.odd_versions and method == "PUT" and minded and _has_versions(environ, app):
            if wanted:
                return "412 PreconditionFailed"
            minded = False
        if not minded:
            environ.pop("HTTP_IF_MATCH", None)
            environ.pop("HTTP_IF_NONE_MATCH", None)
        elif self.bare_etags and wanted.startswith('"'):
            return "412 PreconditionFailed"
        return ""

    def listed(self, query: str, result: Iterable[bytes]) -> Iterable[bytes]:
        """A listing (of all keys: `whole_query` was asked) in this server's order, as long as before."""
        if not self.tree_order:
            return result
        text, asked = b"".join(result), parse_qs(query)
        found = sorted(re.findall(rb"<Contents>.*?</Contents>", text, re.DOTALL), key=_walked)
        start = asked.get("start-after", [""])[0].encode().split(b"/")
        chosen = b"".join([item for item in found if _walked(item) > start][: int(asked.get("max-keys", ["1000"])[0])])
        blank = re.sub(rb"<Contents>.*</Contents>", b"@", text, flags=re.DOTALL)
        return [blank.replace(b"@", chosen).ljust(len(text))]

    def whole_query(self, query: str) -> str:
        """What to ask the embedded server, so that `listed` can choose."""
        return re.sub("&?(start-after|max-keys)=[^&]*", "", query) if self.tree_order else query

    def headers(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The headers of an answer as this server would give them."""
        headers = [item for item in headers if item[0].lower() != "server"]  # moto's own, besides the one above
        if self.only_md5:
            headers = [item for item in headers if not item[0].lower().startswith("x-amz-checksum")]
        if self.titled_metadata:
            headers = [(name.title() if name.lower().startswith("x-amz-meta-") else name, v) for name, v in headers]
        return headers

    def body(self, environ: WSGIEnvironment, result: Iterable[bytes]) -> Iterable[bytes]:
        """The body of an answer as this server would give it, as long as before."""
        if not (
            self.silent_completes and environ["REQUEST_METHOD"] == "POST" and "uploadId" in environ["QUERY_STRING"]
        ):
            return result
        return [re.sub(rb"<ETag>[^<]*</ETag>", lambda m: b"<ETag></ETag>".ljust(len(m[0])), b"".join(result))]


def _walked(item: bytes) -> list[bytes]:
    key = re.search(rb"<Key>(.*?)</Key>", item, re.DOTALL)
    return unquote_to_bytes(key[1]).split(b"/") if key else []


def _has_versions(environ: WSGIEnvironment, app: WSGIApplication) -> bool:
    bucket = "/" + environ["PATH_INFO"].split("/")[1]
    dropped = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "CONTENT_TYPE")
    look = {name: value for name, value in environ.items() if name not in dropped}
    look |= {"REQUEST_METHOD": "GET", "PATH_INFO": bucket, "QUERY_STRING": "versioning", "CONTENT_LENGTH": "0"}
    look |= {"wsgi.input": io.BytesIO(), "RAW_URI": f"{bucket}?versioning", "REQUEST_URI": f"{bucket}?versioning"}
    ignored: Callable[..., Any] = lambda *_: lambda _data: None  # noqa: E731
    return b"Enabled" in b"".join(app(look, ignored))


S3 = Dialect()
UNCONDITIONAL = Dialect(server="OldStore/1", puts=False, completes=False, deletes=False, titled_metadata=True)
OLD_MOTO = Dialect(server="Werkzeug/3.1.9 Python/3.11.7", puts=False, completes=False, deletes=False, believes=True)
CEPH_16 = Dialect(
    server="Ceph",
    completes=False,
    deletes=False,
    odd_versions=True,
    bare_etags=True,
    only_md5=True,
    silent_completes=True,
)
SEAWEED = Dialect(server="SeaweedFS", tree_order=True)
