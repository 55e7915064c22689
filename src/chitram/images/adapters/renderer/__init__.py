"""Makes renditions of stored pictures in confined child processes."""
