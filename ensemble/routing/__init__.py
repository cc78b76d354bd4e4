"""Which expert answers a question, and whether any does."""
