"""What people said, noted, and had answered."""
