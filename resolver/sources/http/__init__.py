"""HTTP to registries: requests, authentication, retries, and connections."""
