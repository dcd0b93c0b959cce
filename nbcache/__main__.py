"""`python -m nbcache` is `nbcache`."""

from __future__ import annotations

import sys

from nbcache.cli import main

if __name__ == "__main__":
    sys.exit(main())
