//! One JSON line an exchange, whatever happened to it.
