"""The read side: metadata and files over HTTP."""
