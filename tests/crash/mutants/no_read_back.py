"""A lander that trusts its commits: what it landed and had not committed lands again."""

import sys

from ops.processes.__main__ import main
from processors.landing import land

if __name__ == "__main__":
    land.suspects = lambda *_: []
    sys.exit(main())
