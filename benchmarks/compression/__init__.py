"""What compression is worth, beside the tools that one would take instead: from one teacher, in one run."""
