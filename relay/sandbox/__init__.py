"""Runs JavaScript of customers where it can do nothing but compute: in child processes that are killed if need be."""
