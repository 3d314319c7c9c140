"""A search over recipes: its space, its study in a database, and what came out of it, as a table and as a plot."""
