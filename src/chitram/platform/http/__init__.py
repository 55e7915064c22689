"""What every HTTP answer shares: errors, request ids, access lines, bodies."""
