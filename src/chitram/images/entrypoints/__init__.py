"""HTTP, jobs and administration: parse, call, return."""
