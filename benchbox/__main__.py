"""``python -m benchbox`` does what ``benchbox`` does."""

from benchbox.cli import main

main()
