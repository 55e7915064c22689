"""Implementations of the ports of delivery."""
