"""The report of a run: one page for people, one summary for scripts."""
