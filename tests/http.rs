//! HTTP semantics pass through, and what two parties could read differently does not.
