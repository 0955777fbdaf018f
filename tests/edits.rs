//! What a plan changes in a request, and that every other byte stays.
