"""Files that people write, and what this machine says about itself."""
