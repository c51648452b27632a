"""Build, read, write and render reports."""
