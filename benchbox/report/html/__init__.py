"""One page, one file: reports as HTML that opens from disk, prints, and asks for nothing from anywhere."""
