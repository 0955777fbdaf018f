//! Replies and requests stream, with back-pressure, and break where they broke.
