"""What stages hand to each other, how they fail, and where state lies: all that every other folder may import."""
