"""An S3 server for benchmarks that costs next to nothing: no checks, everything in memory, threads and sockets.

    python benchmarks/free_s3_server.py        # prints its address, serves until ended

Knows buckets, PutObject, GetObject with ranges and If-Match, HeadObject, DeleteObject(s), ListObjectsV2 and
multipart uploads; single objects have their MD5 as ETag, parts a made-up one. Not for tests.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import socket
import sys
import threading
import time
from email.utils import formatdate
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

objects: dict[str, tuple[list[memoryview], int, str, bytes]] = {}  # path -> blocks, size, ETag, metadata headers
uploads: dict[str, tuple[str, bytes, dict[int, memoryview]]] = {}
numbers = itertools.count(1)


def serve(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = bytearray()
    try:
        while True:
            while (end := buffer.find(b"\r\n\r\n")) < 0:
                block = connection.recv(65536)
                if not block:
                    return
                buffer += block
            head, buffer = bytes(buffer[: end + 2]), buffer[end + 4 :]
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            size = int(length[1]) if length else 0
            if re.search(rb"(?i)\r\nexpect: *100-continue", head):
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = bytearray(size)
            have = min(size, len(buffer))
            body[:have] = buffer[:have]
            buffer = buffer[have:]
            view = memoryview(body)
            while have < size:
                count = connection.recv_into(view[have:])
                if not count:
                    return
                have += count
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            status, headers, blocks = answer(method, target, head, view)
            total = sum(len(block) for block in blocks)
            if b"Content-Length" not in headers:
                headers += b"Content-Length: %d\r\n" % total
            start = b"HTTP/1.1 %s\r\nDate: %s\r\nServer: Superluigi\r\n%s\r\n" % (status, DATE, headers)
            if total < 65536:
                connection.sendall(start + b"".join(blocks))
            else:
                connection.sendall(start)
                for block in blocks:
                    connection.sendall(block)
    except OSError:
        pass
    finally:
        connection.close()


DATE = formatdate(usegmt=True).encode()


def answer(method: str, target: str, head: bytes, body: memoryview) -> tuple[bytes, bytes, list[memoryview]]:
    path, _, query_text = target.partition("?")
    path = unquote(path)
    query = parse_qs(query_text, keep_blank_values=True)
    key = path.split("/", 2)[2] if path.count("/") > 1 else ""
    if not key:
        if method == "POST":
            for name in re.findall(rb"<Key>(.*?)</Key>", bytes(body)):
                objects.pop(f"{path.rstrip('/')}/{name.decode()}", None)
            return b"200 OK", b"Content-Type: application/xml\r\n", [memoryview(b"<DeleteResult/>")]
        return (b"200 OK", b"", []) if method in ("PUT", "HEAD") else listing(path.rstrip("/"), query)
    if method == "PUT":
        if "partNumber" in query:
            uploads[query["uploadId"][0]][2][int(query["partNumber"][0])] = body
            return b"200 OK", b'ETag: "%032x"\r\n' % next(numbers), []
        if source := re.search(rb"(?i)\r\nx-amz-copy-source: *(\S+)", head):
            objects[path] = objects["/" + unquote(source[1].decode()).lstrip("/")]
            text = b'<CopyObjectResult><ETag>"%s"</ETag></CopyObjectResult>' % objects[path][2].encode()
            return b"200 OK", b"", [memoryview(text)]
        if re.search(rb"(?i)\r\nif-none-match:", head) and path in objects:
            return b"412 Precondition Failed", b"", [memoryview(b"<Error><Code>PreconditionFailed</Code></Error>")]
        etag = hashlib.md5(body).hexdigest()
        objects[path] = ([body], len(body), etag, kept(head))
        return b"200 OK", b'ETag: "%s"\r\n' % etag.encode(), []
    if method == "POST" and "uploads" in query:
        upload = f"{next(numbers)}"
        uploads[upload] = (path, kept(head), {})
        text = (
            b"<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>" % upload.encode()
        )
        return b"200 OK", b"", [memoryview(text)]
    if method == "POST":
        _, metadata, parts = uploads.pop(query["uploadId"][0])
        etags = re.findall(rb"([0-9a-f]{32})", bytes(body))
        etag = f"{hashlib.md5(bytes.fromhex(b''.join(etags).decode())).hexdigest()}-{len(parts)}"
        blocks = [parts[number] for number in sorted(parts)]
        objects[path] = (blocks, sum(len(block) for block in blocks), etag, metadata)
        text = (
            b"<CompleteMultipartUploadResult><ETag>&quot;%s&quot;</ETag></CompleteMultipartUploadResult>"
            % etag.encode()
        )
        return b"200 OK", b"", [memoryview(text)]
    if method == "DELETE":
        objects.pop(path, None)
        return b"204 No Content", b"", []
    return get(method, path, head)


def kept(head: bytes) -> bytes:
    return b"".join(re.findall(rb"(?i)\r\n(x-amz-meta-[^\r]*)", head)) and b"".join(
        line + b"\r\n" for line in re.findall(rb"(?i)\r\n(x-amz-meta-[^\r]*)", head)
    )


def get(method: str, path: str, head: bytes) -> tuple[bytes, bytes, list[memoryview]]:
    found = objects.get(path)
    if found is None:
        return b"404 Not Found", b"", [] if method == "HEAD" else [memoryview(b"<Error><Code>NoSuchKey</Code></Error>")]
    blocks, size, etag, metadata = found
    headers = b'ETag: "%s"\r\nLast-Modified: %s\r\nAccept-Ranges: bytes\r\n%s' % (etag.encode(), DATE, metadata)
    if method == "HEAD":
        return b"200 OK", headers + b"Content-Length: %d\r\n" % size, []
    wanted = re.search(rb"(?i)\r\nrange: *bytes=(\d+)-(\d*)", head)
    if not wanted:
        return b"200 OK", headers, blocks
    first, last = int(wanted[1]), min(int(wanted[2] or size), size - 1)
    cut, position = [], 0
    for block in blocks:
        start, stop = max(first - position, 0), min(last + 1 - position, len(block))
        if start < stop:
            cut.append(block[start:stop])
        position += len(block)
    return b"206 Partial Content", headers + b"Content-Range: bytes %d-%d/%d\r\n" % (first, last, size), cut


def listing(bucket: str, query: dict[str, list[str]]) -> tuple[bytes, bytes, list[memoryview]]:
    prefix = f"{bucket}/{query.get('prefix', [''])[0]}"
    after = f"{bucket}/{(query.get('continuation-token') or query.get('start-after') or [''])[0]}"
    most = int(query.get("max-keys", ["1000"])[0])
    keys = sorted(path for path in objects if path.startswith(prefix) and path > after)
    shown = keys[:most]
    rows = [
        f"<Contents><Key>{escape(path[len(bucket) + 1 :])}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{objects[path][2]}&quot;</ETag><Size>{objects[path][1]}</Size></Contents>"
        for path in shown
    ]
    more = (
        f"<NextContinuationToken>{escape(shown[-1][len(bucket) + 1 :])}</NextContinuationToken>"
        if len(keys) > most
        else ""
    )
    cut = f"<IsTruncated>{str(len(keys) > most).lower()}</IsTruncated>"
    text = f"<ListBucketResult>{cut}{more}{''.join(rows)}</ListBucketResult>"
    return b"200 OK", b"Content-Type: application/xml\r\n", [memoryview(text.encode())]


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    sys.setswitchinterval(0.0005)
    threading.Thread(target=_until_parent_goes, daemon=True).start()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def _until_parent_goes() -> None:
    import os

    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    main()
