"""What all processes remember together in Valkey; why it is safe stands in docs/adr/0028."""
