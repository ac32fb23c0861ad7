"""How many tokens there are, and what services bill for them."""
