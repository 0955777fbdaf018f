//! No key appears where it should not: replies, logs, statistics, explanations.
