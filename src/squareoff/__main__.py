"""`python -m squareoff`: the command line."""

from squareoff.apps.cli import main

main()
