"""What can go wrong that the user must mend. A failed case is a result, never one of these.

BenchboxError            one line for the user, exit code 2
├── BadInputError        a file or an argument is wrong: where, key, what, what is allowed
├── WouldOverwriteError  the output exists and nobody said that it may be replaced
├── ResumeError          the journal belongs to another suite or another environment
├── NothingToPlotError   the reports lack what a picture shows
├── MissingPackageError  a package that only some uses need is not installed
├── NodeError            machines of one run do not fit each other, or one of them is gone
└── WorkerStartError     the worker's interpreter could not be started, or its server is gone
"""

from __future__ import annotations


class BenchboxError(Exception):
    """Base of all errors whose text is meant for the user, as one line."""


class BadInputError(BenchboxError):
    """A suite, profile, report or argument is wrong; the text says where, what, and what is allowed."""


class WouldOverwriteError(BenchboxError):
    """The output exists already."""


class ResumeError(BenchboxError):
    """The journal to resume from was written for another suite or environment."""


class NothingToPlotError(BenchboxError):
    """The reports hold nothing that the picture could show; the text says what is missing."""


class MissingPackageError(BenchboxError):
    """A package is not installed that is no dependency, because only some uses need it."""


class NodeError(BenchboxError):
    """The machines of one run do not fit each other, cannot reach each other, or one of them is gone."""


class WorkerStartError(BenchboxError):
    """The worker's interpreter could not be started."""
