"""What registries say: challenges, endpoints, and the order of tags."""
