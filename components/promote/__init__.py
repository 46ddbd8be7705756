"""Decides whether a candidate becomes champion, and keeps a ledger of these decisions."""
