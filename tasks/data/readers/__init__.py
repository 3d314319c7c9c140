"""One kind of source a file: each reads a config into streams of chunks."""
