"""User interfaces: the terminal display, the HTML report and the web server."""
