//! Every failure of the gateway is one JSON that every SDK reads, with a code of its own.
