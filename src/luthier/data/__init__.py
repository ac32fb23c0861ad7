"""From a file of chat examples to checked, grouped and split ones. Nothing here knows of torch."""
