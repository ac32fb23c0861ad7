"""Answers of a model: many at once, each as if it were alone, or one of them token by token."""
