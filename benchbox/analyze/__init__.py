"""Pure functions from measurements to figures. No I/O, no torch."""
