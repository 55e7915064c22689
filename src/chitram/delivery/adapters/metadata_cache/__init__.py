"""Metadata of images in this process and in Valkey; why it is safe stands in docs/adr/0028."""
