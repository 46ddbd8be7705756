"""The command line: `main` declares the commands, `options` what they have in common, `launch` and `doctor` do the work,
`reference` writes the documentation of commands and config. Modules that compute are imported when a command runs."""
