//! What the table must hold to.

use super::*;
use crate::config::tests::host;
use crate::config::{SETTINGS, doors, limits, logs};

/// Every default can be read, and what is shown of it reads back to the same configuration.
#[test]
fn what_is_shown_reads_back() {
    let config = Config::default_on(&host());
    let mut again = Config::unset();
    for setting in SETTINGS {
        let text = (setting.show)(&config);
        (setting.set)(&mut again, &text, &host()).unwrap_or_else(|error| panic!("{}: {error}", setting.key));
    }
    assert_eq!(again, config);
}

/// Values other than the defaults also read back, for every setting.
#[test]
fn other_values_read_back() {
    let other = [
        ("listen", "127.0.0.1:1,[::1]:2,tls://127.0.0.1:3,unix:/run/a.sock"),
        ("admin", "off"),
        ("insecure", "true"),
        ("origins", "https://a.example,http://b.example:81"),
        ("cors-credentials", "false"),
        ("allowed-hosts", "a.example,.b.example,[::1]:81"),
        ("cores", "1-2"),
        ("shards", "8"),
        ("memory", "1G"),
        ("connections", "1000"),
        ("max-message", "1k"),
        ("history-messages", "0"),
        ("history-bytes", "1M"),
        ("history-seconds", "9"),
        ("log-bytes", "1M"),
        ("lag", "close"),
        ("max-subscriptions", "7"),
        ("max-views", "9"),
        ("max-topics", "9"),
        ("max-producers", "7"),
        ("producer-seconds", "61"),
        ("header-timeout", "1500ms"),
        ("request-timeout", "2m"),
        ("ping-interval", "1h"),
        ("dead-after", "2h"),
        ("stream-seconds", "90s"),
        ("compress-from", "off"),
        ("stream-bytes", "0"),
        ("jsonp", "false"),
        ("demo", "false"),
        ("client-library", "false"),
        ("token-cookie", "access"),
        ("verdict-timeout", "1s"),
        ("shutdown-timeout", "0s"),
        ("drain-time", "3s"),
        ("echo", "true"),
        ("log-format", "json"),
        ("log-level", "debug"),
        ("system-topics", "false"),
        ("access-log", "sampled"),
        ("tls-cert", "/a/cert.pem,b.pem"),
        ("tls-key", "/a/key.pem,c.pem"),
        ("tls-client-ca", "/a/ca.pem"),
        ("tls-client-auth", "required"),
        ("proxy-protocol", "127.0.0.1:1,tls://127.0.0.1:3"),
        ("trusted-proxies", "10.0.0.0/8,127.0.0.1,fd00::/8"),
        ("forwarded-header", "forwarded"),
        ("unix-mode", "0600"),
        ("unix-owner", "0:5"),
        ("unix-grants", "uid:7 publish:a/#,gid:8"),
        ("take-over", "/run/corecast/take-over"),
        ("snapshot", "/var/lib/corecast/snapshot"),
        ("max-connections", "20000000"),
        ("max-connections-per-address", "off"),
        ("max-connections-per-subject", "8"),
        ("max-subscriptions-per-address", "5000"),
        ("max-subscriptions-per-subject", "6000"),
        ("max-subscriptions-in-all", "7000"),
        ("connect-rate", "2000"),
        ("connect-rate-per-address", "off"),
        ("publish-rate", "10"),
        ("publish-rate-per-address", "20"),
        ("publish-rate-per-subject", "30"),
        ("publish-rate-in-all", "40"),
        ("publish-bytes", "64k"),
        ("publish-bytes-per-address", "1M"),
        ("publish-bytes-per-subject", "2M"),
        ("publish-bytes-in-all", "1G"),
        ("topic-rate", "3"),
        ("topic-rate-per-address", "4"),
        ("topic-rate-per-subject", "5"),
        ("topic-rate-in-all", "6"),
        ("limit-loopback", "true"),
        ("gone-after", "7s"),
        ("overload-after", "5ms"),
    ];
    assert_eq!(
        other.map(|(key, _)| key).to_vec(),
        ROWS.iter().chain(logs::ROWS).chain(doors::ROWS).chain(limits::ROWS).map(|s| s.key).collect::<Vec<_>>()
    );
    let default = Config::default_on(&host());
    for ((key, text), setting) in other.iter().zip(ROWS.iter().chain(logs::ROWS).chain(doors::ROWS).chain(limits::ROWS))
    {
        let mut config = default.clone();
        (setting.set)(&mut config, text, &host()).unwrap();
        assert_eq!((setting.show)(&config), *text, "{key}");
        assert_ne!(config, default, "{key} changes nothing");
    }
}

/// Values out of their range are refused with the range.
#[test]
fn ranges_are_held() {
    for (key, text, expected) in [
        ("shards", "0", "1 to 256"),
        ("shards", "257", "1 to 256"),
        ("connections", "1048577", "1 to 1048576"),
        ("max-message", "0", "1 to 16M"),
        ("max-message", "17M", "1 to 16M"),
        ("log-bytes", "1k", "4k to 1G"),
        ("memory", "1k", "1M to 16T"),
        ("ping-interval", "10ms", "1s to 1h"),
        ("stream-seconds", "0", "1s to 24h"),
        ("drain-time", "2h", "0s to 1h"),
        ("compress-from", "0", "1 to 16M"),
        ("stream-bytes", "1k", "64k to 1T"),
        ("history-seconds", "5m", "whole number"),
        ("lag", "drop", "replay, close"),
        ("log-level", "loud", "off, error, warn"),
        ("access-log", "some", "off, sampled, all"),
        ("cores", "4", "may use: 0-3"),
        ("origins", "example.com", "https://example.com"),
        ("allowed-hosts", "https://a", "as in example.com"),
        ("echo", "maybe", "true or false"),
        ("trusted-proxies", "10.0.0.1/8", "as in 10.0.0.0/8"),
        ("trusted-proxies", "localhost", "is not a network"),
        ("unix-mode", "rw", "as in 0660"),
        ("unix-owner", "no such", "USER:GROUP"),
        ("unix-grants", "uid:1 all", "publish:prices/#"),
        ("forwarded-header", "via", "x-forwarded-for, forwarded"),
        ("max-connections-per-address", "16777216", "0 to 16777215"),
        ("connect-rate", "fast", "whole number"),
        ("publish-bytes", "1", "1k to 1T"),
        ("overload-after", "2m", "1ms to 1m"),
    ] {
        let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
        let error = (setting.set)(&mut Config::default_on(&host()), text, &host()).unwrap_err();
        assert!(error.contains(expected), "{key} {text}: {error}");
    }
}

/// Sizes that follow the largest message grow with it, and do not shrink below their defaults; one that is given stays.
///
/// `log-bytes` had to be raised by hand before.
#[test]
fn sizes_follow_the_largest_message() {
    let set = |config: &mut Config, key: &str, text: &str| {
        let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
        (setting.set)(config, text, &host()).unwrap();
    };
    for (message, history, log) in [
        ("1k", 64 << 10, 256 << 10),
        ("64k", 64 << 10, 256 << 10),
        ("1M", 1 << 20, 4 << 20),
        ("16M", 16 << 20, 64 << 20),
    ] {
        let mut config = Config::default_on(&host());
        for (key, text) in [("max-message", message), ("history-bytes", "auto"), ("log-bytes", "auto")] {
            set(&mut config, key, text);
        }
        assert_eq!((config.history_bytes, config.log_bytes_max), (history, log), "{message}");
        assert_eq!(config.check(), Ok(()), "{message}");
        set(&mut config, "log-bytes", "40M");
        assert_eq!(config.log_bytes_max, 40 << 20);
    }
}

/// Keys are unique, kebab-case, and their help is one clean sentence without a full stop.
#[test]
fn the_table_is_well_formed() {
    for (i, setting) in SETTINGS.iter().enumerate() {
        assert!(SETTINGS[..i].iter().all(|other| other.key != setting.key), "{} twice", setting.key);
        assert!(setting.key.bytes().all(|b| b == b'-' || b.is_ascii_lowercase()), "{}", setting.key);
        assert!(!setting.help.ends_with('.') && setting.help.len() > 10, "{}", setting.key);
    }
}
