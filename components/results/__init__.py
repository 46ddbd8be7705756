"""What a run came to: the record of an evaluation, the table of metrics, comparisons of stages, and the reader."""
