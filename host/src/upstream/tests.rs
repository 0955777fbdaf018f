//! Promises of the upstream side, against real servers on loopback.
