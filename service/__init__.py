"""The service around the model: settings, stores, registry, rollout, ranking, HTTP and the command line."""
