"""Entities, values, policies and errors of images."""
