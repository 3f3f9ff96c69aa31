"""Reports for people: tables of typed columns, figures, and pages as Markdown and HTML. Imports no torch."""
