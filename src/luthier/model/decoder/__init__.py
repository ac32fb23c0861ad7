"""A decoder of the Llama family with its forward and backward pass written out, over transformers' own weights."""
