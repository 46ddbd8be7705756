"""attrloop trains compact vision-language models to predict product attributes, from few labels and many listings."""
