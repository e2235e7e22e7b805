"""HTTP: wire types, problems, and one file a resource."""
