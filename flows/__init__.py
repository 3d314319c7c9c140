"""The flows: a recipe to a registered version, told as the sequence of its stages."""
