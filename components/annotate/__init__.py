"""Labels a sample of the catalogue with a large model behind an API, within a budget, and splits the labels.

`annotate` is the step. `plan` chooses the listings and the split of each, `label` asks for their labels, `request`
words the question and reads the reply, `budget` bounds calls and cost, `cache` keeps every reply that was paid for, and
`fill` replaces listings whose replies cannot be used. `annotator` is the protocol of what is asked, `annotators` the
table of names, and `openai_endpoint` the annotator behind an OpenAI-compatible API.
"""
