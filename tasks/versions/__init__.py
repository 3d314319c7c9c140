"""A registered version's folder: opened, checked against its manifest, and asked what it answered then."""
