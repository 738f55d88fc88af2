"""The page in the browser, drawn by NiceGUI over the same service as the API. Importing this imports no NiceGUI."""
