"""Doctor: what this machine is set up with, one module per group of checks."""
