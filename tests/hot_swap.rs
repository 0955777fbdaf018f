//! Files are replaced while traffic flows: no exchange fails, none mixes, nothing bad gets in.
