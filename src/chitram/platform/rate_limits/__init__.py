"""Rate limits by the generic cell rate algorithm, shared by all processes through Valkey."""
