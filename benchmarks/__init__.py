"""Measurements of Chitram beside its peers, in the same run: `just bench`."""
