"""The command line: arguments, help and exit codes. Other packages do the work of the commands."""
