//! Whose page asks. A browser lets every page talk to every server, and says in a header whose the page is (RFC 6454).

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

/// Whether a page asks that is not this server's own.
pub(in super::super) fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (headers.contains_key(header::ORIGIN), text(header::ORIGIN), text(header::HOST)) {
        // No browser.
        (false, ..) => false,
        (true, Some(origin), Some(host)) => {
            !origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host))
        }
        (true, ..) => true,
    }
}

/// Whether a page asks that may be somebody else's: its own server may have a name that leads here as well, by which every
/// page can be given an origin that looks like ours. No name does so with an address.
pub(in super::super) fn may_be_foreign(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let fixed = bare.parse::<IpAddr>().is_ok() || bare.eq_ignore_ascii_case("localhost");
    is_foreign(headers) || (headers.contains_key(header::ORIGIN) && !fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_ours_where_its_origin_is_the_host_that_is_asked() {
        let headers = |origin: Option<&str>, host: &str| {
            let mut headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            (is_foreign(&headers), may_be_foreign(&headers))
        };
        assert_eq!(headers(None, "x"), (false, false));
        assert_eq!(headers(Some("http://127.0.0.1:5555"), "127.0.0.1:5555"), (false, false));
        assert_eq!(headers(Some("http://LOCALHOST:5555"), "localhost:5555"), (false, false));
        assert_eq!(headers(Some("http://[::1]:5555"), "[::1]:5555"), (false, false));
        assert_eq!(headers(Some("http://box:5555"), "box:5555"), (false, true));
        assert_eq!(headers(Some("https://evil.example"), "127.0.0.1:5555"), (true, true));
        assert_eq!(headers(Some("null"), "127.0.0.1:5555"), (true, true));
    }
}
