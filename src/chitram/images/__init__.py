"""The write side: accept, keep, change, process and delete images."""
