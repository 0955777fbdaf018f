//! The subcommands: init, check, explain, and serve without a configuration.
