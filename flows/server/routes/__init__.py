"""The API's routes, one file an area."""
