"""What Chitram is measured against."""
