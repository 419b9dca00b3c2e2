"""A disk of one file in user space that writes down every write and flush; run as `recording_disk.py MOUNT IMAGE LOG`.

A loop device lies over the file, a file system over that. The log begins with nothing; an entry is a header of
`HEADER` and, for a write, its bytes.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from typing import Any

NAME = "disk"
#: Offset of a write (-1: a flush), and how many bytes follow.
HEADER = struct.Struct("<qq")


def serve(mount: str, image: str, log: str) -> None:
    import mfusepy  # type: ignore[import-not-found, unused-ignore]

    disk, told = os.open(image, os.O_RDWR), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    class Disk(mfusepy.Operations):  # type: ignore[misc, unused-ignore]
        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
            if path != f"/{NAME}":
                raise mfusepy.FuseOSError(errno.ENOENT)
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": os.fstat(disk).st_size}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", NAME]

        def open(self, path: str, flags: int) -> int:
            return 0

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return os.pread(disk, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            os.write(told, HEADER.pack(offset, len(data)) + data)
            return os.pwrite(disk, data, offset)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            os.write(told, HEADER.pack(-1, 0))
            return 0

        def flush(self, path: str, fh: int) -> int:
            return 0

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            return 0

    mfusepy.FUSE(Disk(), mount, foreground=True, nothreads=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
