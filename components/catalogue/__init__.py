"""What a run knows of products: the schema, listings and labels, and the images and prompts that models see.

`schema.py` reads the verticals, attributes and allowed values from `schema.yaml`. `records.py` has one pydantic model
for every kind of row that is stored or read (listing, label, chain, pair, prediction). `readers.py` reads such rows
and names what is wrong with them; `rows.py` decodes the JSONL and Parquet below it. `images.py` opens images safely,
wherever they lie. `prompts.py` writes the question about an attribute, and reads the answer in what a model wrote.
`vote_kinds.py` says what a chain counts as in a vote.
"""
