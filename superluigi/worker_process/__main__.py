"""`python -m superluigi.worker_process [FOLDER]`; not to be called by hand."""

from __future__ import annotations

import sys

from superluigi.worker_process import main

if __name__ == "__main__":
    if len(sys.argv) > 1:
        main.serve_folder(sys.argv[1])
    else:
        main.serve_pipes()
