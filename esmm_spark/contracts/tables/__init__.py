"""The config of one flat table and of where its values come from."""
