"""`python -m wtal`."""

from wtal.cli import main

main()
