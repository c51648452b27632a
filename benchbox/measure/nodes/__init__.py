"""One run on several machines: node 0 decides what runs and keeps journal and report, the others serve it."""
