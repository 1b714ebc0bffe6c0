"""The command line: parse options, call the session, print the answer."""
