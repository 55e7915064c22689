"""Object stores: local files and S3-compatible servers behind one protocol."""
