"""`python -m wtal`."""

from wtal.cli import main

main(prog_name="wtal")
