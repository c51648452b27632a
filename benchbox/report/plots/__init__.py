"""Pictures of reports, one module a kind. matplotlib is imported when one is drawn, never before.

Each kind has a function from reports to a :class:`~benchbox.report.plots.plot.Plot`, which holds the data as
text too; :mod:`~benchbox.report.plots.canvas` turns it into SVG, PNG or PDF.
"""
