"""`python -m superluigi` is the `superluigi` command."""

import sys

from superluigi.cli import main

sys.exit(main())
