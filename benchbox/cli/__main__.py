"""``python -m benchbox.cli`` does what ``benchbox`` does."""

from benchbox.cli import main

main()
