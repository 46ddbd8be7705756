"""The rooms of attrloop: foundations, rooms that several steps use, and a room for each step (see README.md)."""
