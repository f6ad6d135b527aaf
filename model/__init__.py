"""The order protocol, explored state by state over the product's own rules: `make model`."""
