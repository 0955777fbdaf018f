//! A plugin that misbehaves costs one exchange, and nothing else.
