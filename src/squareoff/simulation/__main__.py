"""`python -m squareoff.simulation`, which `make sim` runs."""

import sys

from squareoff.simulation.many import main

if __name__ == "__main__":
    sys.exit(main())
