"""Files and folders by URI: atomic replacement, leases, task attempts, fingerprints, tensor files."""
