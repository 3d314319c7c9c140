"""A registered version's folder: opened, held against its manifest, and asked what it answered then."""
