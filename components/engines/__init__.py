"""Engines decode chains. Here are their protocol, what they are asked for, their names, and the chains of a listing.

Nothing here imports torch. An engine itself lives in `model` and is loaded when a step has something to decode.
"""
