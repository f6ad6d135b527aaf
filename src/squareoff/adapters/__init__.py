"""DOES. One vendor or store each."""
