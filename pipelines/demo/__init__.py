"""The embedded world of `attrloop demo`: rendered products, a tiny model and a stand-in annotator."""
