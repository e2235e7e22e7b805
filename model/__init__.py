"""The ranking model, pure: schema, transform, networks, training, bundle, scorer and gate, in that reading order."""
