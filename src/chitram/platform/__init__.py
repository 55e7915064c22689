"""The technical base: servers, stores, HTTP. Knows nothing of images or accounts."""
