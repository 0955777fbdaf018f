//! The gateway's promises, one file each, against the library's own `run` and upstreams written as closures.

mod support;

mod routing;
