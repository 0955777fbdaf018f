//! CORS: preflights and replies for configured origins.
