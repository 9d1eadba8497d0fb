"""The sharded embedding: arena, look-up, exchange, optimizer step."""
