"""One loop for every stage that trains, what it makes small, and what a teacher says meanwhile."""
