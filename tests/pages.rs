//! The built-in routes are taken exactly, and show what they promise.
