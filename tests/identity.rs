//! Proxy keys: every form is accepted, none travels on, and what is wrong with one is said.
