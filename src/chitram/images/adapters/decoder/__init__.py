"""Decides in confined child processes what uploaded bytes are, proves them whole, plans what to store."""
