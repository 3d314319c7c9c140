"""What stages hand to each other, how they fail, where state and users' functions lie: what every folder may import."""
