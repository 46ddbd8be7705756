"""attrloop: compact vision-language models that learn product attributes from a few labels and many unlabelled listings."""
