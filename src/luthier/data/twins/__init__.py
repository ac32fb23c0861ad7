"""Which rows are alike: equal, nearly equal, or parts of each other."""
