"""What is looked for, in one row and in all."""
