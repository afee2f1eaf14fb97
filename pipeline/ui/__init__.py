"""What people look at: the terminal display, the HTML report and the web server."""
