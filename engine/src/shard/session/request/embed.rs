//! Who may show a page of ours in a frame of its own: a forever frame calls functions of the page around it.
//!
//! A browser sends no `Origin` for a frame, so that it is the browser that has to keep strangers out: Content Security Policy,
//! `frame-ancestors` (W3C, CSP Level 3 section 6.4.2).

/// Origins of the list that are longer than all these together are left out: a head has to stay short.
const SOURCES_BYTES_MAX: usize = 4 << 10;

/// Makes the policy of a forever frame: nothing but its own scripts, inside pages of the same host, of the `listed` origins, and on a
/// loopback listener of any port of this machine. What no policy can say (an origin with other than plain letters) is left out.
#[must_use]
pub(in crate::shard) fn frame_policy(listed: &[String], loopback: &[bool]) -> String {
    let mut policy = String::from("default-src 'none'; script-src 'unsafe-inline'; frame-ancestors 'self'");
    if listed.iter().any(|origin| origin == "*") {
        // `*` alone stands for network schemes only.
        policy.push_str(" * data: blob: file: filesystem:");
        return policy;
    }
    if !loopback.is_empty() && loopback.iter().all(|is| *is) {
        for source in ["http://localhost:*", "https://localhost:*", "http://127.0.0.1:*", "https://127.0.0.1:*"] {
            policy.push(' ');
            policy.push_str(source);
        }
    }
    for origin in listed {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":/.-_+".contains(&byte);
        if origin.contains("://") && origin.bytes().all(plain) && policy.len() + origin.len() < SOURCES_BYTES_MAX {
            policy.push(' ');
            policy.push_str(origin);
        }
    }
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A policy names those who may read, and nothing that could end it or begin another.
    #[test]
    fn policies_name_the_listed() {
        let list = |origins: &[&str]| origins.iter().map(|origin| (*origin).to_owned()).collect::<Vec<_>>();
        let ancestors = |origins: &[&str], loopback: &[bool]| {
            let policy = frame_policy(&list(origins), loopback);
            policy.split("frame-ancestors ").nth(1).expect("it says so").to_owned()
        };
        assert_eq!(ancestors(&[], &[false]), "'self'");
        assert_eq!(ancestors(&[], &[true, false]), "'self'");
        let local = "'self' http://localhost:* https://localhost:* http://127.0.0.1:* https://127.0.0.1:*";
        assert_eq!(ancestors(&[], &[true]), local);
        assert_eq!(ancestors(&["https://a.example", "http://b:8080"], &[]), "'self' https://a.example http://b:8080");
        assert_eq!(ancestors(&["https://a.example; script-src *", "null", "https://b c", "https://ü"], &[]), "'self'");
        assert_eq!(ancestors(&["*"], &[true]), "'self' * data: blob: file: filesystem:");
        assert!(frame_policy(&vec!["https://a.example".to_owned(); 10_000], &[]).len() <= SOURCES_BYTES_MAX);
    }
}
