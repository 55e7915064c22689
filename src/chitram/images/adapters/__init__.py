"""Implementations of the ports of images."""
