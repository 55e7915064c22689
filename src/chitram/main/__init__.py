"""Composition roots: container, API, worker, administration, the embedded stack."""
