//! What a plugin is shown, and when its answer is reused.
