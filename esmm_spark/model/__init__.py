"""The sharded embedding, the networks, ESMM and its losses."""
