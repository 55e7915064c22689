"""Accounts, their sessions, and who is asking."""
