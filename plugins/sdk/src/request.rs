//! Looking into a request.

use crate::{Request, Transport};

impl Request {
    /// The first value of a header, by its name in lower case; none unless the profile asked for that header and the
    /// client sent it.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// Every value of a header, in order of arrival.
    pub fn header_values<'r>(&'r self, name: &str) -> impl Iterator<Item = &'r str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a query parameter; see [`query_value`].
    pub fn query_value(&self, name: &str) -> Option<&str> {
        query_value(self.query.as_deref(), name)
    }

    /// Whether the client wants a WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.transport == Transport::Websocket
    }
}

/// The value of the first query parameter of that name, undecoded: what plugins look for (models, `alt=sse`) needs no
/// decoding.
pub fn query_value<'q>(query: Option<&'q str>, name: &str) -> Option<&'q str> {
    query?.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request;

    #[test]
    fn a_query_value_is_found_by_its_whole_name() {
        let query = Some("submodel=x&model=qwen-omni&alt=sse");
        assert_eq!(query_value(query, "model"), Some("qwen-omni"));
        assert_eq!(query_value(query, "alt"), Some("sse"));
        assert_eq!(query_value(query, "al"), None);
        assert_eq!(query_value(None, "model"), None);
    }

    #[test]
    fn the_first_value_of_a_header_is_the_one_that_came_first() {
        let request = request("GET", "/").with_header("x-a", "1").with_header("x-b", "2").with_header("x-a", "3");
        assert_eq!((request.header("x-a"), request.header("x-c")), (Some("1"), None));
        assert_eq!(request.header_values("x-a").collect::<Vec<_>>(), ["1", "3"]);
    }
}
