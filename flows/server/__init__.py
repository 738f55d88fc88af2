"""The server of `modalign serve`: a JSON API over the space in force, and a page in the browser. No Prefect."""
