//! Connections to providers: TLS, HTTP/2, healing, timeouts, and who is told what when they fail.
