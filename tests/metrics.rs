//! `/metrics`: what a Prometheus server scrapes.

use crate::support::{Answer, Conf, Gateway, Upstream, get};

/// The value of a sample; its labels as they are written.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

async fn scraped(gateway: &Gateway) -> Answer {
    get(gateway.address, "/metrics").await
}

#[tokio::test]
async fn exchanges_and_calls_are_scraped_in_the_standards_form() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    for path in ["/v1/x", "/v1/y", "/puppet/trap"] {
        get(gateway.address, path).await;
    }
    gateway.until("they are counted", |stats| stats["total_requests"] == 3).await;
    let reply = scraped(&gateway).await;
    let expected = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, Some(expected)));
    let text = reply.text();
    assert!(text.ends_with("\n# EOF\n"));
    let complete = "aiproxy_requests_total{channel=\"c\",transport=\"http\",status_class=\"2xx\",outcome=\"complete\"}";
    for (name, value) in [
        (complete, 2.0),
        ("aiproxy_proxy_key_requests_total{proxy_key=\"tester\",outcome=\"complete\"}", 2.0),
        ("aiproxy_request_duration_seconds_count{channel=\"c\"}", 3.0),
        ("aiproxy_request_duration_seconds_bucket{le=\"+Inf\",channel=\"c\"}", 3.0),
        ("aiproxy_plugin_calls_total{plugin=\"puppet\",outcome=\"trap\"}", 1.0),
        ("aiproxy_generation", 1.0),
        ("aiproxy_generations_alive", 1.0),
        ("aiproxy_requests_in_flight", 0.0),
        ("aiproxy_statistics_up", 1.0),
        ("aiproxy_channel_up{channel=\"c\"}", 1.0),
        ("aiproxy_file_up{file=\"api_keys.json\"}", 1.0),
    ] {
        assert_eq!(sample(text, name), Some(value), "{name} in\n{text}");
    }
    assert!(sample(text, "aiproxy_plugin_call_duration_seconds_count{plugin=\"puppet\"}").unwrap() >= 1.0);
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(sample(text, name).unwrap() > 0.0, "{name}");
    }
    assert!(sample(text, "aiproxy_client_connections").unwrap() >= 1.0);
}

#[tokio::test]
async fn reloads_are_counted_by_result() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    gateway.conf.write_file("api_keys.json", "{ broken");
    gateway.reload();
    gateway.refuses("api_keys.json", "").await;
    let text = scraped(&gateway).await;
    assert_eq!(sample(text.text(), "aiproxy_reloads_total{result=\"refused\"}"), Some(1.0));
    assert_eq!(sample(text.text(), "aiproxy_file_up{file=\"api_keys.json\"}"), Some(0.0));
    gateway.conf.write();
    gateway.reload();
    gateway.mended("api_keys.json").await;
    let text = scraped(&gateway).await;
    assert_eq!(sample(text.text(), "aiproxy_reloads_total{result=\"accepted\"}"), Some(1.0));
}

/// Each family once, with its type before its samples, names and labels as they may be.
#[tokio::test]
async fn no_family_and_no_sample_is_there_twice() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    get(gateway.address, "/v1/x").await;
    gateway.until("it is counted", |stats| stats["total_requests"] == 1).await;
    let reply = scraped(&gateway).await;
    let (mut families, mut samples) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    let mut family = String::new();
    for line in reply.text().lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{line}");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&family), "{line} is not of {family}");
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            assert!(samples.insert(name.to_owned()), "{line}");
        }
    }
    assert!(families.len() > 30 && samples.len() > 60, "{} families", families.len());
}

/// A dashboard that asks for what is not there shows nothing, and nobody sees why.
#[tokio::test]
async fn the_grafana_dashboard_asks_only_for_what_there_is() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let text = scraped(&gateway).await.text().to_owned();
    let families: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect();
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../docs/grafana-dashboard.json")).expect("it is JSON");
    let mut asked = 0;
    for target in dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap())
    {
        let query = target["expr"].as_str().unwrap();
        let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        for name in words.filter(|word| word.starts_with("aiproxy_") || word.starts_with("process_")) {
            let family = ["_total", "_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(families.iter().any(|known| known == family.unwrap_or(name)), "{name} in {query}");
            asked += 1;
        }
    }
    assert!(asked > 20, "{asked}");
}
