"""The report of a study: tables and figures for a browser, for Markdown and for a terminal."""
