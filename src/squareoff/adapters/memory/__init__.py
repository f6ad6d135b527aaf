"""The stores without a disk: they ship with the product, for replay and simulation, and keep the same contracts."""
