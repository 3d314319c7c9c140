"""What data and answers were like, and how far they moved."""
