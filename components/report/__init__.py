"""The report of a run: one page for people, one summary for scripts.

`report` writes both. `panels` prepares what the page says, `training` and `confusions` two of its larger parts,
`gallery` the listings with their pictures, and `plots` draws.
"""
