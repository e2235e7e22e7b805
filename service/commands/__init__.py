"""The verbs of the command line, a file a subject. A verb's options are its parameters, which typer reads."""
