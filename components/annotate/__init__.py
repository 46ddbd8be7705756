"""Labels a sample of the catalogue with a large model behind an API, within a budget, and splits the labels."""
