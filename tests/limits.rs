//! Bounds: each refusal with its status, and nothing else suffers.
