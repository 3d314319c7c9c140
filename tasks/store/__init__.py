"""MLflow, and the one way into it: what is kept and looked up, the registry, and the cache rule around every stage."""
