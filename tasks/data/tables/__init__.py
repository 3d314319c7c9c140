"""Tables: files of every kind, what their columns hold, and which numbers a model gets of them."""
