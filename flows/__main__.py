"""`python -m flows` is `modalign`."""

from flows.cli import main

main()
