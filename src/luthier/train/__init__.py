"""Training an adapter: batches, attention, loss, schedule, checkpoints, and the loop that joins them."""
