"""What mends the findings."""
