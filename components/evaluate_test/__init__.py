"""Reads the test split once, at the end: all stages of the loop, and the champion."""
