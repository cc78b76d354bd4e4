"""What the experts were grown from, as the ensemble remembers it."""
