"""The command line: arguments, help and exit codes. What a command does is a call to the other packages."""
