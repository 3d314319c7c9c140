"""What was measured, as it is kept, compared and shown."""
