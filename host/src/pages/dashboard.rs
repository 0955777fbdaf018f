//! `/dashboard`: one page that loads nothing from elsewhere, put together from its parts, and the policy that says so.

use std::sync::LazyLock;

use bytes::Bytes;
use http::HeaderValue;

use super::policy;

const FRAME: &str = include_str!("dashboard/page.html");

/// Of its one style and its one script, in the order of `parts.txt`, which the browser's tests read.
const STYLES: [&str; 2] = [include_str!("dashboard/vendor/uPlot.min.css"), include_str!("dashboard/style.css")];
const SCRIPTS: [&str; 12] = [
    include_str!("dashboard/text.js"),
    include_str!("dashboard/vendor/uPlot.iife.min.js"),
    include_str!("dashboard/format.js"),
    include_str!("dashboard/state.js"),
    include_str!("dashboard/nodes.js"),
    include_str!("dashboard/charts.js"),
    include_str!("dashboard/figures.js"),
    include_str!("dashboard/tables.js"),
    include_str!("dashboard/columns.js"),
    include_str!("dashboard/views.js"),
    include_str!("dashboard/panels.js"),
    include_str!("dashboard/main.js"),
];

/// Put together once, since it never changes.
static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

struct Page {
    html: Bytes,
    policy: HeaderValue,
}

pub fn html() -> Bytes {
    PAGE.html.clone()
}

/// The page loads nothing from elsewhere, and of scripts and styles only its own run: those with these hashes.
pub fn policy() -> HeaderValue {
    PAGE.policy.clone()
}

impl Page {
    fn new() -> Self {
        let fill = |tag: &str, parts: &[&str]| format!("<{tag}>{}</{tag}>", parts.join("\n"));
        let html = FRAME
            .replace("<style></style>", &fill("style", &STYLES))
            .replace("<script></script>", &fill("script", &SCRIPTS));
        let (script, style) = (policy::hash(&html, "script"), policy::hash(&html, "style"));
        let policy = policy::only(&format!(
            "script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; img-src data:; \
             form-action 'none'"
        ));
        Self { html: html.into(), policy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_those_of_the_list_in_its_order() {
        let list = include_str!("dashboard/parts.txt");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/pages/dashboard/");
        let of = |kind: &str| -> Vec<String> {
            let names = list.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' '));
            names.map(|name| std::fs::read_to_string(format!("{folder}{name}")).unwrap()).collect()
        };
        assert_eq!((of("style"), of("script")), (STYLES.map(str::to_owned).into(), SCRIPTS.map(str::to_owned).into()));
    }

    #[test]
    fn the_page_has_one_style_and_one_script_and_names_no_other_host() {
        let html = String::from_utf8(html().into()).unwrap();
        assert_eq!((html.matches("<script>").count(), html.matches("</script>").count()), (1, 1));
        assert_eq!((html.matches("<style>").count(), html.matches("</style>").count()), (1, 1));
        assert!(!html.contains("<script src") && !html.contains(" style=\""));
        assert_eq!(html.matches("<link").count(), html.matches("<link rel=\"icon\" href=\"data:").count());
        assert!(html.len() > 50_000, "the parts are in it");
    }
}
